//! The grammar of the dialect, by recursive descent; what LuaJIT would read otherwise is rewritten on the way.
//!
//! Binary operators of the dialect become calls of helpers: `a & b` turns into `(helper(a , b))`. The parentheses keep the frame in
//! `return a & b`, which would be a tail call and lose script and line in messages.

use super::lexer::{Kind, Lexer, Token};
use super::scope::{Origin, Scopes};
use super::{Edits, SyntaxError};

mod expression;

/// A dotted name that begins with the global `msys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    pub name: String,
    pub line: usize,
    pub column: usize,
    /// It is called, not assigned or read.
    pub called: bool,
}

pub(super) struct Parsed {
    pub edits: Edits,
    pub helpers: Vec<&'static str>,
    pub mentions: Vec<Mention>,
    pub functions: Vec<Mention>,
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
        scopes: Scopes::default(),
        helpers: Vec::new(),
        mentions: Vec::new(),
        functions: Vec::new(),
        depth: 0,
        method_follows: false,
    };
    parser.scopes.open_function(true, None, Vec::new());
    parser.block()?;
    if parser.token.kind != Kind::End {
        return Err(parser.expected("<eof>"));
    }
    Ok(Parsed { edits: parser.edits, helpers: parser.helpers, mentions: parser.mentions, functions: parser.functions })
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
    scopes: Scopes,
    helpers: Vec<&'static str>,
    mentions: Vec<Mention>,
    functions: Vec<Mention>,
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

    fn advance(&mut self) -> Result<()> {
        self.last_line = self.token.line;
        self.last_end = self.token.end;
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

    fn helper(&mut self, helper: &'static str) -> String {
        if !self.helpers.contains(&helper) {
            self.helpers.push(helper);
        }
        format!("{}{helper}", self.prefix)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= DEPTH_MAX {
            return Err(self.error("chunk has too many syntax levels"));
        }
        self.depth += 1;
        let outcome = parse(self);
        self.depth -= 1;
        outcome
    }

    // Statements.

    fn block_ends(&self) -> bool {
        self.token.kind == Kind::End || ["else", "elseif", "end", "until"].iter().any(|word| self.is(word))
    }

    fn block(&mut self) -> Result<()> {
        self.deeper(|this| {
            while !this.block_ends() {
                let last = this.statement()?;
                this.take(";")?;
                if last {
                    break;
                }
            }
            Ok(())
        })
    }

    fn scoped_block(&mut self) -> Result<()> {
        self.scopes.open_block();
        self.block()?;
        self.scopes.close_block();
        Ok(())
    }

    /// True for the last one of a block.
    fn statement(&mut self) -> Result<bool> {
        let line = self.token.line;
        if self.token.kind != Kind::Keyword {
            self.expression_statement()?;
            return Ok(false);
        }
        match self.text() {
            b"if" => self.if_statement(line)?,
            b"while" => {
                self.advance()?;
                self.expression()?;
                self.expect("do")?;
                self.loop_block()?;
                self.expect_closing("end", "while", line)?;
            }
            b"do" => {
                self.advance()?;
                self.scoped_block()?;
                self.expect_closing("end", "do", line)?;
            }
            b"for" => self.for_statement(line)?,
            b"repeat" => {
                self.advance()?;
                // The condition sees the block's locals.
                self.scopes.open_loop();
                self.scopes.open_block();
                self.block()?;
                self.scopes.close_loop();
                self.expect_closing("until", "repeat", line)?;
                self.expression()?;
                self.scopes.close_block();
            }
            b"function" => {
                self.advance()?;
                let name = self.name()?;
                self.resolve_function_name(&name)?;
                self.function_body(line)?;
            }
            b"local" => {
                self.advance()?;
                if self.take("function")? {
                    let name = self.name()?;
                    self.scopes.declare(name);
                    self.function_body(line)?;
                } else {
                    self.local_statement()?;
                }
            }
            b"return" => {
                self.advance()?;
                if !self.block_ends() && !self.is(";") {
                    self.expressions()?;
                }
                return Ok(true);
            }
            b"break" => {
                if !self.scopes.in_loop() {
                    return Err(self.error("no loop to break"));
                }
                self.advance()?;
                return Ok(true);
            }
            _ => self.expression_statement()?,
        }
        Ok(false)
    }

    fn if_statement(&mut self, line: usize) -> Result<()> {
        loop {
            self.advance()?; // `if` or `elseif`
            self.expression()?;
            self.expect("then")?;
            self.scoped_block()?;
            if !self.is("elseif") {
                break;
            }
        }
        if self.take("else")? {
            self.scoped_block()?;
        }
        self.expect_closing("end", "if", line)
    }

    fn loop_block(&mut self) -> Result<()> {
        self.scopes.open_loop();
        self.scoped_block()?;
        self.scopes.close_loop();
        Ok(())
    }

    fn for_statement(&mut self, line: usize) -> Result<()> {
        self.advance()?;
        let mut names = vec![self.name()?];
        if self.take("=")? {
            self.expression()?;
            self.expect(",")?;
            self.expression()?;
            if self.take(",")? {
                self.expression()?;
            }
        } else {
            while self.take(",")? {
                names.push(self.name()?);
            }
            if !self.is("in") {
                return Err(self.error("'=' or 'in' expected"));
            }
            self.advance()?;
            self.iterator()?;
        }
        self.expect("do")?;
        self.scopes.open_loop();
        self.scopes.open_block();
        for name in names {
            self.scopes.declare(name);
        }
        self.scoped_block()?;
        self.scopes.close_block();
        self.scopes.close_loop();
        self.expect_closing("end", "for", line)
    }

    /// Whether the octet before `at` belongs to a word, so that a word put there would join it.
    fn follows_word(&self, at: usize) -> bool {
        self.source[..at].last().is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }

    /// The expressions of a generic `for`. `pairs(...)`, `ipairs(...)` and `next, t` never ask `__iter` and are left alone, so that
    /// LuaJIT keeps its fast path; all else goes through a helper.
    fn iterator(&mut self) -> Result<()> {
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
        if plain {
            if self.call_that_ends_the_list()? {
                return Ok(());
            }
        } else {
            self.expressions()?;
        }
        let helper = self.helper("iter");
        // `in(f())` and `in!x` have nothing between the word and what follows it.
        let blank = if self.follows_word(start) { " " } else { "" };
        self.edits.open(start, format!("{blank}{helper}("));
        self.edits.close(self.last_end, ")");
        Ok(())
    }

    /// Reads the expressions; true when they are one call without suffixes, as `pairs(t)` is.
    fn call_that_ends_the_list(&mut self) -> Result<bool> {
        let operand = self.expression()?;
        let alone = operand.shape == Shape::Call && operand.name.is_none() && self.is("do");
        while self.take(",")? {
            self.expression()?;
        }
        Ok(alone)
    }

    fn local_statement(&mut self) -> Result<()> {
        let mut names = vec![self.name()?];
        while self.take(",")? {
            names.push(self.name()?);
        }
        if self.take("=")? {
            self.expressions()?;
        }
        for name in names {
            self.scopes.declare(name);
        }
        Ok(())
    }

    /// `a.b:c` after `function`, its first name being read.
    fn resolve_function_name(&mut self, first: &str) -> Result<()> {
        let origin = self.scopes.resolve(first);
        let (mut path, place) = (first.to_owned(), (self.last_line, 0));
        let mut last = None;
        while self.is(".") || self.is(":") {
            let method = self.is(":");
            self.advance()?;
            let (line, column) = (self.token.line, self.token.column);
            let name = self.name()?;
            path = format!("{path}.{name}");
            last = Some(Mention { name, line, column, called: false });
            if method {
                self.method_follows = true;
                break;
            }
        }
        self.functions.extend(last);
        if origin == Origin::Global && first == "msys" {
            self.mention(Some(path), place, false);
        }
        Ok(())
    }

    fn expression_statement(&mut self) -> Result<()> {
        let (start, first_is_tls) = (self.token.start, self.tls_helper().is_some());
        let edits_before = self.edits.len();
        let mut operand = self.suffixed()?;
        let alone = self.last_end - start;
        if self.is("=") || self.is(",") {
            loop {
                if operand.shape != Shape::Variable {
                    return Err(self.error("syntax error"));
                }
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
            return self.expressions();
        }
        match operand.shape {
            Shape::Call => Ok(()),
            Shape::Variable => Err(self.expected("=")),
            Shape::Other => Err(self.error("syntax error")),
        }
    }
}
