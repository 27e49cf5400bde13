//! The grammar of the dialect, by recursive descent; what LuaJIT would read otherwise is rewritten on the way.
//!
//! Binary operators of the dialect become calls of helpers: `a & b` turns into `(helper(a , b))`. The parentheses keep the frame in
//! `return a & b`, which would be a tail call and lose script and line in messages.

use super::lexer::{Kind, Lexer, Token};
use super::scope::{Origin, Scopes};
use super::tree::{Block, Expression, Form, Name, Place, Statement, Suffix};
use super::{Edits, SyntaxError};

mod expression;

pub(super) struct Parsed {
    pub edits: Edits,
    pub helpers: Vec<&'static str>,
    pub chunk: Block,
}

pub(super) fn parse(source: &[u8], prefix: &str) -> Result<Parsed> {
    let mut lexer = Lexer::new(source);
    let mut edits = Edits::default();
    let token = lexer.next(&mut edits)?;
    let mut parser = Parser {
        source,
        prefix,
        lexer,
        edits,
        token,
        ahead: None,
        last_line: 1,
        last_end: 0,
        last_place: Place::default(),
        scopes: Scopes::default(),
        helpers: Vec::new(),
        depth: 0,
        method_follows: false,
    };
    parser.scopes.open_function(true, None, Vec::new());
    let chunk = parser.block()?;
    if parser.token.kind != Kind::End {
        return Err(parser.expected("<eof>"));
    }
    Ok(Parsed { edits: parser.edits, helpers: parser.helpers, chunk })
}

/// How deep blocks, expressions and functions may nest, as in Lua (`LUAI_MAXCCALLS`).
const DEPTH_MAX: usize = 190;
const UNARY_PRIORITY: u8 = 8;

struct Parser<'a> {
    source: &'a [u8],
    prefix: &'a str,
    lexer: Lexer<'a>,
    edits: Edits,
    token: Token,
    ahead: Option<Token>,
    /// Line and end of the token before the present one.
    last_line: usize,
    last_end: usize,
    last_place: Place,
    scopes: Scopes,
    helpers: Vec<&'static str>,
    depth: usize,
    /// The next function body has a `self`.
    method_follows: bool,
}

/// An expression that was read: what its value is called in messages.
#[derive(Default)]
struct Operand {
    name: Option<String>,
    /// A plain or dotted name, a call, an index: what can be called or assigned.
    shape: Shape,
    node: Expression,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Other,
    Variable,
    Call,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl Parser<'_> {
    // Tokens.

    fn text(&self) -> &[u8] {
        &self.source[self.token.start..self.token.end]
    }

    fn is(&self, text: &str) -> bool {
        matches!(self.token.kind, Kind::Keyword | Kind::Symbol) && self.text() == text.as_bytes()
    }

    fn place(&self) -> Place {
        let Token { line, column, start, end, .. } = self.token;
        Place { line, column, start, end }
    }

    fn advance(&mut self) -> Result<()> {
        self.last_line = self.token.line;
        self.last_end = self.token.end;
        self.last_place = self.place();
        self.token = match self.ahead.take() {
            Some(token) => token,
            None => self.lexer.next(&mut self.edits)?,
        };
        Ok(())
    }

    fn peek(&mut self) -> Result<Token> {
        let token = match self.ahead {
            Some(token) => token,
            None => self.lexer.next(&mut self.edits)?,
        };
        self.ahead = Some(token);
        Ok(token)
    }

    fn take(&mut self, text: &str) -> Result<bool> {
        let found = self.is(text);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.take(text)? { Ok(()) } else { Err(self.expected(text)) }
    }

    /// What closes something that was opened at `line`.
    fn expect_closing(&mut self, what: &str, opener: &str, line: usize) -> Result<()> {
        if self.take(what)? {
            return Ok(());
        }
        if line == self.token.line {
            return Err(self.expected(what));
        }
        Err(self.error(&format!("'{what}' expected (to close '{opener}' at line {line})")))
    }

    fn expected(&self, what: &str) -> SyntaxError {
        self.error(&format!("'{what}' expected"))
    }

    fn error(&self, text: &str) -> SyntaxError {
        let near = match self.token.kind {
            Kind::End => "<eof>".to_owned(),
            _ => String::from_utf8_lossy(self.text()).into_owned(),
        };
        SyntaxError { line: self.token.line, column: self.token.column, text: format!("{text} near '{near}'") }
    }

    fn name(&mut self) -> Result<String> {
        if self.token.kind != Kind::Name {
            return Err(self.error("<name> expected"));
        }
        let name = String::from_utf8_lossy(self.text()).into_owned();
        self.advance()?;
        Ok(name)
    }

    fn named(&mut self) -> Result<Name> {
        let place = self.place();
        Ok(Name { text: self.name()?, place })
    }

    fn helper(&mut self, helper: &'static str) -> String {
        if !self.helpers.contains(&helper) {
            self.helpers.push(helper);
        }
        format!("{}{helper}", self.prefix)
    }

    /// Begins a level of nesting. Without `leave` after an error: that ends the parse.
    fn enter(&mut self) -> Result<()> {
        if self.depth >= DEPTH_MAX {
            return Err(self.error("chunk has too many syntax levels"));
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    // Statements.

    fn block_ends(&self) -> bool {
        self.token.kind == Kind::End || ["else", "elseif", "end", "until"].iter().any(|word| self.is(word))
    }

    fn block(&mut self) -> Result<Block> {
        self.enter()?;
        let mut block = Block::new();
        while !self.block_ends() {
            let statement = self.statement()?;
            let last = matches!(statement, Statement::Return { .. } | Statement::Break);
            block.push(statement);
            self.take(";")?;
            if last {
                break;
            }
        }
        self.leave();
        Ok(block)
    }

    fn scoped_block(&mut self) -> Result<Block> {
        self.scopes.open_block();
        let block = self.block()?;
        self.scopes.close_block();
        Ok(block)
    }

    fn statement(&mut self) -> Result<Statement> {
        let line = self.token.line;
        if self.token.kind != Kind::Keyword {
            return self.expression_statement();
        }
        Ok(match self.text() {
            b"if" => self.if_statement(line)?,
            b"while" => {
                self.advance()?;
                let condition = self.expression()?.node;
                self.expect("do")?;
                let body = self.loop_block()?;
                self.expect_closing("end", "while", line)?;
                Statement::While { condition, body }
            }
            b"do" => {
                self.advance()?;
                let body = self.scoped_block()?;
                self.expect_closing("end", "do", line)?;
                Statement::Do(body)
            }
            b"for" => self.for_statement(line)?,
            b"repeat" => {
                self.advance()?;
                // The condition sees the block's locals.
                self.scopes.open_loop();
                self.scopes.open_block();
                let body = self.block()?;
                self.scopes.close_loop();
                self.expect_closing("until", "repeat", line)?;
                let condition = self.expression()?.node;
                self.scopes.close_block();
                Statement::Repeat { body, condition }
            }
            b"function" => {
                self.advance()?;
                let path = self.function_name()?;
                let function = self.function_body(line)?;
                Statement::Function { path, function }
            }
            b"local" => {
                self.advance()?;
                if self.take("function")? {
                    let name = self.named()?;
                    self.scopes.declare(name.text.clone());
                    let function = self.function_body(line)?;
                    Statement::LocalFunction { name, function }
                } else {
                    self.local_statement()?
                }
            }
            b"return" => {
                let place = self.place();
                self.advance()?;
                let values = if !self.block_ends() && !self.is(";") { self.expressions()? } else { Vec::new() };
                Statement::Return { place, values }
            }
            b"break" => {
                if !self.scopes.in_loop() {
                    return Err(self.error("no loop to break"));
                }
                self.advance()?;
                Statement::Break
            }
            _ => self.expression_statement()?,
        })
    }

    fn if_statement(&mut self, line: usize) -> Result<Statement> {
        let mut arms = Vec::new();
        loop {
            self.advance()?; // `if` or `elseif`
            let condition = self.expression()?.node;
            self.expect("then")?;
            arms.push((condition, self.scoped_block()?));
            if !self.is("elseif") {
                break;
            }
        }
        let otherwise = if self.take("else")? { Some(self.scoped_block()?) } else { None };
        self.expect_closing("end", "if", line)?;
        Ok(Statement::If { arms, otherwise })
    }

    fn loop_block(&mut self) -> Result<Block> {
        self.scopes.open_loop();
        let block = self.scoped_block()?;
        self.scopes.close_loop();
        Ok(block)
    }

    fn for_statement(&mut self, line: usize) -> Result<Statement> {
        self.advance()?;
        let mut names = vec![self.named()?];
        let mut values = Vec::new();
        if self.take("=")? {
            values.push(self.expression()?.node);
            self.expect(",")?;
            values.push(self.expression()?.node);
            if self.take(",")? {
                values.push(self.expression()?.node);
            }
        } else {
            while self.take(",")? {
                names.push(self.named()?);
            }
            if !self.is("in") {
                return Err(self.error("'=' or 'in' expected"));
            }
            self.advance()?;
            values = self.iterator()?;
        }
        self.expect("do")?;
        self.scopes.open_loop();
        self.scopes.open_block();
        for name in &names {
            self.scopes.declare(name.text.clone());
        }
        let body = self.scoped_block()?;
        self.scopes.close_block();
        self.scopes.close_loop();
        self.expect_closing("end", "for", line)?;
        Ok(Statement::For { names, values, body })
    }

    /// Whether the octet before `at` belongs to a word, so that a word put there would join it.
    fn follows_word(&self, at: usize) -> bool {
        self.source[..at].last().is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// The expressions of a generic `for`. `pairs(...)`, `ipairs(...)` and `next, t` never ask `__iter` and are left alone, so that
    /// LuaJIT keeps its fast path; all else goes through a helper.
    fn iterator(&mut self) -> Result<Vec<Expression>> {
        let start = self.token.start;
        let first = self.text().to_vec();
        let follows = self.peek()?;
        let follows = &self.source[follows.start..follows.end];
        let plain = match &first[..] {
            b"next" => follows == b",",
            b"pairs" | b"ipairs" => follows == b"(",
            _ => false,
        };
        let name = String::from_utf8_lossy(&first).into_owned();
        let plain = plain && self.scopes.resolve(&name) == Origin::Global;
        if plain && first == b"next" {
            return self.expressions();
        }
        let values = if plain {
            let (values, alone) = self.call_that_ends_the_list()?;
            if alone {
                return Ok(values);
            }
            values
        } else {
            self.expressions()?
        };
        let helper = self.helper("iter");
        // `in(f())` and `in!x` have nothing between the word and what follows it.
        let blank = if self.follows_word(start) { " " } else { "" };
        self.edits.open(start, format!("{blank}{helper}("));
        self.edits.close(self.last_end, ")");
        Ok(values)
    }

    /// Reads the expressions; true when they are one call without suffixes, as `pairs(t)` is.
    fn call_that_ends_the_list(&mut self) -> Result<(Vec<Expression>, bool)> {
        let operand = self.expression()?;
        let alone = operand.shape == Shape::Call && operand.name.is_none() && self.is("do");
        let mut values = vec![operand.node];
        while self.take(",")? {
            values.push(self.expression()?.node);
        }
        Ok((values, alone))
    }

    fn local_statement(&mut self) -> Result<Statement> {
        let mut names = vec![self.named()?];
        while self.take(",")? {
            names.push(self.named()?);
        }
        let values = if self.take("=")? { self.expressions()? } else { Vec::new() };
        for name in &names {
            self.scopes.declare(name.text.clone());
        }
        Ok(Statement::Local { names, values })
    }

    /// `a.b:c` after `function`.
    fn function_name(&mut self) -> Result<Vec<Name>> {
        let mut path = vec![self.named()?];
        self.scopes.resolve(&path[0].text);
        while self.is(".") || self.is(":") {
            let method = self.is(":");
            self.advance()?;
            path.push(self.named()?);
            if method {
                self.method_follows = true;
                break;
            }
        }
        Ok(path)
    }

    fn expression_statement(&mut self) -> Result<Statement> {
        let (start, first_is_tls) = (self.token.start, self.tls_helper().is_some());
        let edits_before = self.edits.len();
        let mut operand = self.suffixed()?;
        let alone = self.last_end - start;
        if self.is("=") || self.is(",") {
            let mut targets = Vec::new();
            loop {
                if operand.shape != Shape::Variable {
                    return Err(self.error("syntax error"));
                }
                targets.push(std::mem::take(&mut operand.node));
                if !self.take(",")? {
                    break;
                }
                operand = self.suffixed()?;
            }
            if first_is_tls && alone <= "_OSTLS".len() {
                // `_TLS = x` makes a global that nobody sees: `_TLS` itself cannot be assigned.
                self.edits.truncate(edits_before);
            }
            self.expect("=")?;
            let values = self.expressions()?;
            return Ok(Statement::Assign { targets, values });
        }
        match operand.shape {
            Shape::Call => Ok(Statement::Call(operand.node)),
            Shape::Variable => Err(self.expected("=")),
            Shape::Other => Err(self.error("syntax error")),
        }
    }
}
