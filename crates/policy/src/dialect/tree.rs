//! The syntax tree of a chunk: what `check` walks. Loading a policy makes it too and drops it; it costs a few allocations.
//!
//! Chains (`a.b.c()`, `a + b + c`, `elseif`) are flat lists and all other nesting is bounded by the parser, so that walking and
//! dropping a tree cannot overflow the stack.

/// Where something stands in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1.
    pub line: usize,
    /// In octets, from 1.
    pub column: usize,
    /// Octets of the source.
    pub start: usize,
    pub end: usize,
}

impl Place {
    pub fn to(self, last: Place) -> Place {
        Place { end: last.end.max(self.end), ..self }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Name {
    pub text: String,
    pub place: Place,
}

pub(crate) type Block = Vec<Statement>;

#[derive(Debug, PartialEq)]
pub(crate) enum Statement {
    Call(Expression),
    Assign {
        targets: Vec<Expression>,
        values: Vec<Expression>,
    },
    Local {
        names: Vec<Name>,
        values: Vec<Expression>,
    },
    LocalFunction {
        name: Name,
        function: Function,
    },
    /// `function a.b:c() end`: the path has all three names.
    Function {
        path: Vec<Name>,
        function: Function,
    },
    Return {
        place: Place,
        values: Vec<Expression>,
    },
    Break,
    Do(Block),
    While {
        condition: Expression,
        body: Block,
    },
    Repeat {
        body: Block,
        condition: Expression,
    },
    If {
        arms: Vec<(Expression, Block)>,
        otherwise: Option<Block>,
    },
    For {
        names: Vec<Name>,
        values: Vec<Expression>,
        body: Block,
    },
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Function {
    /// With `self` of a method.
    pub parameters: Vec<Name>,
    pub vararg: bool,
    pub body: Block,
    /// Of the word `end`.
    pub end: Place,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expression {
    pub place: Place,
    pub form: Form,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) enum Form {
    #[default]
    Nil,
    True,
    False,
    Number,
    /// A string and its content, where it has no escapes.
    String(Option<String>),
    Dots,
    Function(Box<Function>),
    Table(Vec<Item>),
    Name(String),
    Parenthesized(Box<Expression>),
    Suffixed {
        base: Box<Expression>,
        suffixes: Vec<Suffix>,
    },
    /// `not` and `!`.
    Not(Box<Expression>),
    Unary(Box<Expression>),
    Binary {
        operator: Operator,
        operands: Vec<Expression>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    /// `==`, `~=`, `!=`.
    Equality,
    Other,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Item {
    pub key: Key,
    pub value: Expression,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Key {
    Position,
    Name(Name),
    Value(Expression),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Suffix {
    Field(Name),
    Index(Expression),
    Call(Arguments),
    Method(Name, Arguments),
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Arguments {
    pub values: Vec<Expression>,
    /// Brackets included.
    pub place: Place,
}

impl Expression {
    /// `left operator right`; a chain of one operator is one node.
    pub fn binary(left: Expression, operator: Operator, right: Expression) -> Expression {
        let place = left.place.to(right.place);
        let operands = match left.form {
            Form::Binary { operator: same, mut operands } if same == operator => {
                operands.push(right);
                operands
            }
            _ => vec![left, right],
        };
        Expression { place, form: Form::Binary { operator, operands } }
    }

    /// The plain name that it is.
    pub fn name(&self) -> Option<&str> {
        match &self.form {
            Form::Name(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it may stand for several values.
    pub fn is_open(&self) -> bool {
        match &self.form {
            Form::Dots => true,
            Form::Suffixed { suffixes, .. } => {
                matches!(suffixes.last(), Some(Suffix::Call(_) | Suffix::Method(..)))
            }
            _ => false,
        }
    }
}
