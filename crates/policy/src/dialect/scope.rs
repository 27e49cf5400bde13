//! Which names are local where: for the implicit `arg`, for globals that are rewritten, and for the names in messages.

/// The functions that are open, the innermost last.
#[derive(Default)]
pub(super) struct Scopes {
    functions: Vec<Function>,
}

struct Function {
    /// Blocks, the innermost last, each with its locals.
    blocks: Vec<Vec<String>>,
    vararg: bool,
    /// `...` occurs in its own body.
    uses_dots: bool,
    /// The implicit `arg` is named.
    names_arg: bool,
    /// Where a declaration of `arg` would go: after the parameters. `None` for the main chunk, which has no `arg`.
    body: Option<usize>,
    loops: usize,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Local,
    Upvalue,
    Global,
}

/// What has to be declared at the beginning of a vararg function.
pub(super) enum ImplicitArg {
    No,
    /// A table of the extra arguments, at this place.
    Table(usize),
    /// Nil, hiding outer ones.
    Nil(usize),
}

impl Scopes {
    pub fn open_function(&mut self, vararg: bool, body: Option<usize>, parameters: Vec<String>) {
        self.functions.push(Function {
            blocks: vec![parameters],
            vararg,
            uses_dots: false,
            names_arg: false,
            body,
            loops: 0,
        });
    }

    pub fn close_function(&mut self) -> ImplicitArg {
        match self.functions.pop() {
            Some(Function { names_arg: true, body: Some(at), uses_dots, .. }) => {
                if uses_dots {
                    ImplicitArg::Nil(at)
                } else {
                    ImplicitArg::Table(at)
                }
            }
            _ => ImplicitArg::No,
        }
    }

    pub fn open_block(&mut self) {
        self.innermost().blocks.push(Vec::new());
    }

    pub fn close_block(&mut self) {
        self.innermost().blocks.pop();
    }

    pub fn declare(&mut self, name: String) {
        if let Some(block) = self.innermost().blocks.last_mut() {
            block.push(name);
        }
    }

    pub fn open_loop(&mut self) {
        self.innermost().loops += 1;
    }

    pub fn close_loop(&mut self) {
        self.innermost().loops -= 1;
    }

    pub fn in_loop(&self) -> bool {
        self.functions.last().is_some_and(|function| function.loops > 0)
    }

    /// Notes a `...`; false where there is none.
    pub fn use_dots(&mut self) -> bool {
        let function = self.innermost();
        function.uses_dots |= function.vararg;
        function.vararg
    }

    /// Finds a name that is read or assigned.
    pub fn resolve(&mut self, name: &str) -> Origin {
        let depth = self.functions.len();
        for (at, function) in self.functions.iter_mut().enumerate().rev() {
            // The parameters are the outermost block; an implicit `arg` lies right inside of them.
            let inside = function.blocks.iter().skip(1).rev().flatten().any(|local| local == name);
            let implicit = !inside && name == "arg" && function.vararg && function.body.is_some();
            function.names_arg |= implicit;
            let parameter = function.blocks.first().is_some_and(|block| block.iter().any(|local| local == name));
            if inside || implicit || parameter {
                return if at + 1 == depth { Origin::Local } else { Origin::Upvalue };
            }
        }
        Origin::Global
    }

    fn innermost(&mut self) -> &mut Function {
        self.functions.last_mut().expect("the main chunk is open as long as the parser runs")
    }
}
