//! Expressions: precedences, operands, calls, tables, function bodies.
//!
//! `a & b` is read as an operand, an operator and a tighter operand, and rewritten when both ends are known; what it was made of may
//! have been rewritten already, since edits at one place keep the order of nesting.

use super::{Expression, Form, Kind, Name, Operand, Parser, Place, Result, Shape, Suffix, UNARY_PRIORITY};
use crate::dialect::scope::{ImplicitArg, Origin};
use crate::dialect::tree::{Arguments, Function, Item, Key, Operator as Meaning};

impl Parser<'_> {
    pub(super) fn expressions(&mut self) -> Result<Vec<Expression>> {
        let mut values = vec![self.expression()?.node];
        while self.take(",")? {
            values.push(self.expression()?.node);
        }
        Ok(values)
    }

    pub(super) fn expression(&mut self) -> Result<Operand> {
        self.sub_expression(0)
    }

    /// An expression whose binary operators bind tighter than `limit`.
    fn sub_expression(&mut self, limit: u8) -> Result<Operand> {
        self.enter()?;
        let mut left = self.unary()?;
        while let Some(operator) = self.binary_operator() {
            if operator.left <= limit {
                break;
            }
            left = self.operation(left, &operator)?;
        }
        self.leave();
        Ok(left)
    }

    /// The rest of `left operator right`.
    fn operation(&mut self, left: Operand, operator: &Operator) -> Result<Operand> {
        let (from, to) = (self.token.start, self.token.end);
        self.advance()?;
        let right = self.sub_expression(operator.right)?;
        if let Some(helper) = operator.helper {
            self.call_helper(helper, &left, (from, to), &right);
        }
        let node = Expression::binary(left.node, operator.meaning, right.node);
        Ok(Operand { node, ..Operand::default() })
    }

    /// Rewrites an operation whose operator stands at `from..to` to a call.
    fn call_helper(&mut self, helper: &'static str, left: &Operand, (from, to): (usize, usize), right: &Operand) {
        // Lua 5.1 gives the operation the line of its last token, LuaJIT a call that of its first.
        let (at, place) = (self.last_line, left.node.place);
        let helper = self.helper(helper);
        self.edits.open(place.start, format!("({helper}("));
        self.edits.replace(from, to, ",");
        self.edits.close(self.last_end, format!("{}))", names(left, right, (at != place.line).then_some(at))));
    }

    // What nests goes through small functions: in a build without optimization each temporary has a place of its own on the stack.

    fn unary(&mut self) -> Result<Operand> {
        if let Kind::Keyword | Kind::Symbol = self.token.kind {
            match self.text() {
                b"not" | b"!" => return self.prefixed(Form::Not),
                b"-" | b"#" | b"~" => return self.prefixed(Form::Unary),
                b"(" => return self.suffixed(),
                _ => {}
            }
        }
        self.simple()
    }

    fn prefixed(&mut self, form: fn(Box<Expression>) -> Form) -> Result<Operand> {
        let token = self.token;
        let place = self.place();
        self.advance()?;
        if self.source[token.start] == b'!' {
            // `return!a` is three tokens; `returnnot a` would be two others.
            let not = if self.follows_word(token.start) { " not " } else { "not " };
            self.edits.replace(token.start, token.end, not);
        }
        let operand = self.sub_expression(UNARY_PRIORITY)?;
        if self.source[token.start] == b'~' {
            let helper = self.helper("bnot");
            self.edits.replace(token.start, token.end, "");
            self.edits.open(token.start, format!("({helper}("));
            self.edits.close(self.last_end, format!("{}))", names(&operand, &Operand::default(), None)));
        }
        let node = Expression { place: place.to(operand.node.place), form: form(Box::new(operand.node)) };
        Ok(Operand { node, ..Operand::default() })
    }

    fn simple(&mut self) -> Result<Operand> {
        let place = self.place();
        let form = match self.token.kind {
            Kind::Number | Kind::String => self.constant()?,
            Kind::Keyword if matches!(self.text(), b"nil" | b"true" | b"false") => self.constant()?,
            Kind::Keyword if self.is("function") => {
                let line = self.token.line;
                self.advance()?;
                Form::Function(Box::new(self.function_body(line)?))
            }
            Kind::Symbol if self.is("...") => {
                if !self.scopes.use_dots() {
                    return Err(self.error("cannot use '...' outside a vararg function"));
                }
                self.advance()?;
                Form::Dots
            }
            Kind::Symbol if self.is("{") => Form::Table(self.table()?),
            _ => return self.suffixed(),
        };
        let node = Expression { place: place.to(self.last_place), form };
        Ok(Operand { node, ..Operand::default() })
    }

    /// A token that is a value.
    fn constant(&mut self) -> Result<Form> {
        let form = match (self.token.kind, self.text()) {
            (Kind::Number, _) => Form::Number,
            (Kind::String, text) => Form::String(string_content(text)),
            (_, b"true") => Form::True,
            (_, b"false") => Form::False,
            _ => Form::Nil,
        };
        self.advance()?;
        Ok(form)
    }

    /// The helper that stands for the present token, if it is `_TLS` or `_OSTLS` and no local hides it.
    pub(super) fn tls_helper(&mut self) -> Option<&'static str> {
        let helper = match self.text() {
            b"_TLS" => "tls",
            b"_OSTLS" => "ostls",
            _ => return None,
        };
        let name = String::from_utf8_lossy(self.text()).into_owned();
        (self.token.kind == Kind::Name && self.scopes.resolve(&name) == Origin::Global).then_some(helper)
    }

    /// A name or a parenthesized expression, with fields, indices and calls.
    pub(super) fn suffixed(&mut self) -> Result<Operand> {
        let place = self.place();
        let base = self.base()?;
        self.suffixes(place, base)
    }

    fn base(&mut self) -> Result<Operand> {
        if self.token.kind == Kind::Name {
            self.base_name()
        } else if self.is("(") {
            self.parenthesized()
        } else {
            Err(self.error("unexpected symbol"))
        }
    }

    fn suffixes(&mut self, place: Place, base: Operand) -> Result<Operand> {
        let mut operand = base;
        let base = std::mem::take(&mut operand.node);
        let mut suffixes = Vec::new();
        loop {
            if self.take(".")? {
                let name = self.named()?;
                let shown = Some(format!("field '{}'", name.text));
                operand = Operand { name: shown, shape: Shape::Variable, ..Operand::default() };
                suffixes.push(Suffix::Field(name));
            } else if self.is("[") {
                suffixes.push(self.index(&mut operand)?);
            } else if self.is(":") {
                self.advance()?;
                let name = self.named()?;
                suffixes.push(Suffix::Method(name, self.arguments()?));
                operand = Operand { shape: Shape::Call, ..Operand::default() };
            } else if self.is("(") || self.is("{") || self.token.kind == Kind::String {
                suffixes.push(Suffix::Call(self.arguments()?));
                operand = Operand { shape: Shape::Call, ..Operand::default() };
            } else {
                break;
            }
        }
        operand.node = if suffixes.is_empty() {
            base
        } else {
            let form = Form::Suffixed { base: Box::new(base), suffixes };
            Expression { place: place.to(self.last_place), form }
        };
        Ok(operand)
    }

    fn base_name(&mut self) -> Result<Operand> {
        let tls = self.tls_helper();
        let (token, place) = (self.token, self.place());
        let name = self.name()?;
        let origin = self.scopes.resolve(&name);
        if let Some(helper) = tls {
            let helper = self.helper(helper);
            self.edits.replace(token.start, token.end, format!("{helper}()"));
        }
        let kind = match origin {
            Origin::Local => "local",
            Origin::Upvalue => "upvalue",
            Origin::Global => "global",
        };
        let shown = Some(format!("{kind} '{name}'"));
        Ok(Operand { name: shown, shape: Shape::Variable, node: Expression { place, form: Form::Name(name) } })
    }

    fn parenthesized(&mut self) -> Result<Operand> {
        let place = self.place();
        self.advance()?;
        let inside = Box::new(self.expression()?.node);
        self.expect_closing(")", "(", place.line)?;
        let node = Expression { place: place.to(self.last_place), form: Form::Parenthesized(inside) };
        Ok(Operand { node, ..Operand::default() })
    }

    /// `[key]`.
    fn index(&mut self, operand: &mut Operand) -> Result<Suffix> {
        self.advance()?;
        let key = self.token;
        let value = self.expression()?.node;
        let constant = key.kind == Kind::String && key.end == self.last_end;
        let name = constant.then(|| plain_string(&self.source[key.start..key.end])).flatten();
        self.expect("]")?;
        let shown = name.as_ref().map(|name| format!("field '{name}'"));
        *operand = Operand { name: shown, shape: Shape::Variable, ..Operand::default() };
        Ok(match name {
            Some(text) => Suffix::Field(Name { text, place: value.place }),
            None => Suffix::Index(value),
        })
    }

    fn arguments(&mut self) -> Result<Arguments> {
        let place = self.place();
        if self.token.kind == Kind::String {
            let form = self.constant()?;
            return Ok(Arguments { values: vec![Expression { place, form }], place });
        }
        if self.is("{") {
            let form = Form::Table(self.table()?);
            let place = place.to(self.last_place);
            return Ok(Arguments { values: vec![Expression { place, form }], place });
        }
        if !self.is("(") {
            return Err(self.error("function arguments expected"));
        }
        let line = self.token.line;
        if line != self.last_line {
            return Err(self.error("ambiguous syntax (function call x new statement)"));
        }
        self.advance()?;
        let values = if self.is(")") { Vec::new() } else { self.expressions()? };
        self.expect_closing(")", "(", line)?;
        Ok(Arguments { values, place: place.to(self.last_place) })
    }

    fn table(&mut self) -> Result<Vec<Item>> {
        let line = self.token.line;
        self.advance()?;
        let mut items = Vec::new();
        while !self.is("}") {
            let key = if self.is("[") {
                self.advance()?;
                let key = self.expression()?.node;
                self.expect("]")?;
                self.expect("=")?;
                Key::Value(key)
            } else if self.token.kind == Kind::Name && self.next_is_assignment()? {
                let name = self.named()?;
                self.advance()?;
                Key::Name(name)
            } else {
                Key::Position
            };
            items.push(Item { key, value: self.expression()?.node });
            if !self.take(",")? && !self.take(";")? {
                break;
            }
        }
        self.expect_closing("}", "{", line)?;
        Ok(items)
    }

    fn next_is_assignment(&mut self) -> Result<bool> {
        let next = self.peek()?;
        Ok(next.kind == Kind::Symbol && &self.source[next.start..next.end] == b"=")
    }

    /// Parameters and body, after the name.
    pub(super) fn function_body(&mut self, line: usize) -> Result<Function> {
        let mut parameters = Vec::new();
        if std::mem::take(&mut self.method_follows) {
            parameters.push(Name { text: "self".to_owned(), place: self.place() });
        }
        self.expect("(")?;
        let mut vararg = false;
        while !self.is(")") {
            if self.take("...")? {
                vararg = true;
                break;
            }
            if self.token.kind != Kind::Name {
                return Err(self.error("<name> or '...' expected"));
            }
            parameters.push(self.named()?);
            if !self.take(",")? {
                break;
            }
            if self.is(")") {
                return Err(self.error("<name> or '...' expected"));
            }
        }
        self.expect(")")?;
        let names = parameters.iter().map(|name| name.text.clone()).collect();
        self.scopes.open_function(vararg, Some(self.last_end), names);
        let body = self.scoped_block()?;
        match self.scopes.close_function() {
            ImplicitArg::No => {}
            ImplicitArg::Table(at) => {
                let helper = self.helper("arg");
                self.edits.close(at, format!(" local arg={helper}(...);"));
            }
            // With a semicolon: a body that begins with a bracket would else be a call of the declaration's last word.
            ImplicitArg::Nil(at) => self.edits.close(at, " local arg;"),
        }
        let end = self.place();
        self.expect_closing("end", "function", line)?;
        Ok(Function { parameters, vararg, body, end })
    }

    fn binary_operator(&self) -> Option<Operator> {
        if !matches!(self.token.kind, Kind::Keyword | Kind::Symbol) {
            return None;
        }
        let (left, right, helper) = match self.text() {
            b"or" => (1, 1, None),
            b"and" => (2, 2, None),
            b"<" | b">" | b"<=" | b">=" | b"==" | b"~=" | b"!=" => (3, 3, None),
            b".." => (5, 4, None),
            b"+" | b"-" => (6, 6, None),
            b"&" => (6, 6, Some("band")),
            b"|" => (6, 6, Some("bor")),
            b"^^" => (6, 6, Some("bxor")),
            b"*" | b"/" | b"%" => (7, 7, None),
            b"<<" => (7, 7, Some("shl")),
            b">>" => (7, 7, Some("shr")),
            b"\\" => (7, 7, Some("intdiv")),
            b"^" => (10, 9, None),
            _ => return None,
        };
        let meaning = match self.text() {
            b"or" => Meaning::Or,
            b"and" => Meaning::And,
            b"==" | b"~=" | b"!=" => Meaning::Equality,
            _ => Meaning::Other,
        };
        Some(Operator { left, right, helper, meaning })
    }
}

struct Operator {
    left: u8,
    right: u8,
    helper: Option<&'static str>,
    meaning: Meaning,
}

/// The names of the operands as further arguments of a helper, and the operation's line where it is not that of the call.
fn names(left: &Operand, right: &Operand, line: Option<usize>) -> String {
    let quoted = |operand: &Operand| operand.name.as_ref().map_or("nil".to_owned(), |name| format!("\"{name}\""));
    match (&left.name, &right.name, line) {
        (.., Some(line)) => format!(",{},{},{line}", quoted(left), quoted(right)),
        (None, None, None) => String::new(),
        (Some(_), None, None) => format!(",{}", quoted(left)),
        (_, Some(_), None) => format!(",{},{}", quoted(left), quoted(right)),
    }
}

/// The content of a string without escapes, for a message.
fn plain_string(token: &[u8]) -> Option<String> {
    let inside = token.get(1..token.len().checked_sub(1)?)?;
    let plain = inside.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    plain.then(|| String::from_utf8_lossy(inside).into_owned())
}

/// The content of a string token, unless escapes are in it.
fn string_content(token: &[u8]) -> Option<String> {
    let inside = match token.first()? {
        b'[' => {
            let bracket = token.iter().skip(1).position(|byte| *byte == b'[')? + 2;
            token.get(bracket..token.len().checked_sub(bracket)?)?
        }
        _ => token.get(1..token.len().checked_sub(1)?)?,
    };
    (token[0] == b'[' || !inside.contains(&b'\\')).then(|| String::from_utf8_lossy(inside).into_owned())
}
