//! Expressions: precedences, operands, calls, tables, function bodies.
//!
//! `a & b` is read as an operand, an operator and a tighter operand, and rewritten when both ends are known; what it was made of may
//! have been rewritten already, since edits at one place keep the order of nesting.

use super::{Kind, Mention, Operand, Parser, Result, Shape, UNARY_PRIORITY};
use crate::dialect::scope::{ImplicitArg, Origin};

impl Parser<'_> {
    pub(super) fn expressions(&mut self) -> Result<()> {
        self.expression()?;
        while self.take(",")? {
            self.expression()?;
        }
        Ok(())
    }

    pub(super) fn expression(&mut self) -> Result<Operand> {
        self.sub_expression(0)
    }

    /// An expression whose binary operators bind tighter than `limit`.
    fn sub_expression(&mut self, limit: u8) -> Result<Operand> {
        self.deeper(|this| {
            let (start, line) = (this.token.start, this.token.line);
            let mut left = this.unary()?;
            while let Some(operator) = this.binary_operator() {
                if operator.left <= limit {
                    break;
                }
                let (from, to) = (this.token.start, this.token.end);
                this.advance()?;
                let right = this.sub_expression(operator.right)?;
                // Lua 5.1 gives the operation the line of its last token, LuaJIT a call that of its first.
                let at = this.last_line;
                if let Some(helper) = operator.helper {
                    let helper = this.helper(helper);
                    this.edits.open(start, format!("({helper}("));
                    this.edits.replace(from, to, ",");
                    this.edits.close(this.last_end, format!("{}))", names(&left, &right, (at != line).then_some(at))));
                }
                left = Operand::default();
            }
            Ok(left)
        })
    }

    fn unary(&mut self) -> Result<Operand> {
        let start = self.token.start;
        if self.is("not") || self.is("-") || self.is("#") {
            self.advance()?;
            self.sub_expression(UNARY_PRIORITY)?;
            return Ok(Operand::default());
        }
        if self.is("!") {
            // `return!a` is three tokens; `returnnot a` would be two others.
            let not = if self.follows_word(start) { " not " } else { "not " };
            self.edits.replace(start, self.token.end, not);
            self.advance()?;
            self.sub_expression(UNARY_PRIORITY)?;
            return Ok(Operand::default());
        }
        if self.is("~") {
            let end = self.token.end;
            self.advance()?;
            let operand = self.sub_expression(UNARY_PRIORITY)?;
            let helper = self.helper("bnot");
            self.edits.replace(start, end, "");
            self.edits.open(start, format!("({helper}("));
            self.edits.close(self.last_end, format!("{}))", names(&operand, &Operand::default(), None)));
            return Ok(Operand::default());
        }
        self.simple()
    }

    fn simple(&mut self) -> Result<Operand> {
        match self.token.kind {
            Kind::Number | Kind::String => self.advance()?,
            Kind::Keyword if matches!(self.text(), b"nil" | b"true" | b"false") => self.advance()?,
            Kind::Keyword if self.is("function") => {
                let line = self.token.line;
                self.advance()?;
                self.function_body(line)?;
            }
            Kind::Symbol if self.is("...") => {
                if !self.scopes.use_dots() {
                    return Err(self.error("cannot use '...' outside a vararg function"));
                }
                self.advance()?;
            }
            Kind::Symbol if self.is("{") => self.table()?,
            _ => return self.suffixed(),
        }
        Ok(Operand::default())
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
        let mut operand = Operand { name: None, shape: Shape::Variable };
        let (mut path, place) = (None, (self.token.line, self.token.column));
        if self.token.kind == Kind::Name {
            let tls = self.tls_helper();
            let token = self.token;
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
            operand.name = Some(format!("{kind} '{name}'"));
            path = (origin == Origin::Global && name == "msys").then_some(name);
        } else if self.is("(") {
            let line = self.token.line;
            self.advance()?;
            self.expression()?;
            self.expect_closing(")", "(", line)?;
            operand = Operand::default();
        } else {
            return Err(self.error("unexpected symbol"));
        }
        loop {
            if self.take(".")? {
                let name = self.name()?;
                if let Some(path) = &mut path {
                    path.push('.');
                    path.push_str(&name);
                }
                operand = Operand { name: Some(format!("field '{name}'")), shape: Shape::Variable };
            } else if self.is("[") {
                self.advance()?;
                let key = self.token;
                self.expression()?;
                let constant = key.kind == Kind::String && key.end == self.last_end;
                let name = constant.then(|| plain_string(&self.source[key.start..key.end])).flatten();
                self.expect("]")?;
                self.mention(path.take(), place, false);
                operand = Operand { name: name.map(|name| format!("field '{name}'")), shape: Shape::Variable };
            } else if self.is(":") {
                self.mention(path.take(), place, false);
                self.advance()?;
                self.name()?;
                self.arguments()?;
                operand = Operand { name: None, shape: Shape::Call };
            } else if self.is("(") || self.is("{") || self.token.kind == Kind::String {
                self.mention(path.take(), place, true);
                self.arguments()?;
                operand = Operand { name: None, shape: Shape::Call };
            } else {
                self.mention(path, place, false);
                return Ok(operand);
            }
        }
    }

    pub(super) fn mention(&mut self, path: Option<String>, (line, column): (usize, usize), called: bool) {
        if let Some(name) = path {
            self.mentions.push(Mention { name, line, column, called });
        }
    }

    fn arguments(&mut self) -> Result<()> {
        if self.token.kind == Kind::String {
            return self.advance();
        }
        if self.is("{") {
            return self.table();
        }
        if !self.is("(") {
            return Err(self.error("function arguments expected"));
        }
        let line = self.token.line;
        if line != self.last_line {
            return Err(self.error("ambiguous syntax (function call x new statement)"));
        }
        self.advance()?;
        if !self.is(")") {
            self.expressions()?;
        }
        self.expect_closing(")", "(", line)
    }

    fn table(&mut self) -> Result<()> {
        let line = self.token.line;
        self.advance()?;
        while !self.is("}") {
            if self.is("[") {
                self.advance()?;
                self.expression()?;
                self.expect("]")?;
                self.expect("=")?;
                self.expression()?;
            } else if self.token.kind == Kind::Name && self.next_is_assignment()? {
                self.advance()?;
                self.advance()?;
                self.expression()?;
            } else {
                self.expression()?;
            }
            if !self.take(",")? && !self.take(";")? {
                break;
            }
        }
        self.expect_closing("}", "{", line)
    }

    fn next_is_assignment(&mut self) -> Result<bool> {
        let next = self.peek()?;
        Ok(next.kind == Kind::Symbol && &self.source[next.start..next.end] == b"=")
    }

    /// Parameters and body, after the name.
    pub(super) fn function_body(&mut self, line: usize) -> Result<()> {
        let mut parameters = Vec::new();
        if std::mem::take(&mut self.method_follows) {
            parameters.push("self".to_owned());
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
            parameters.push(self.name()?);
            if !self.take(",")? {
                break;
            }
            if self.is(")") {
                return Err(self.error("<name> or '...' expected"));
            }
        }
        self.expect(")")?;
        self.scopes.open_function(vararg, Some(self.last_end), parameters);
        self.scoped_block()?;
        match self.scopes.close_function() {
            ImplicitArg::No => {}
            ImplicitArg::Table(at) => {
                let helper = self.helper("arg");
                self.edits.close(at, format!(" local arg={helper}(...);"));
            }
            // With a semicolon: a body that begins with a bracket would else be a call of the declaration's last word.
            ImplicitArg::Nil(at) => self.edits.close(at, " local arg;"),
        }
        self.expect_closing("end", "function", line)
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
        Some(Operator { left, right, helper })
    }
}

struct Operator {
    left: u8,
    right: u8,
    helper: Option<&'static str>,
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
