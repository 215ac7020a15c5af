//! Pieces as a tree.

use super::TemplateError;
use super::lexer::{Piece, Token};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Assign { name: String, value: Pipeline },
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { names: Vec<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands with bars between them: the value of each is the last argument of the next.
pub(super) type Pipeline = Vec<Command>;
/// A value, or a function and its arguments.
pub(super) type Command = Vec<Operand>;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Text(String),
    Number(f64),
    Bool(bool),
    Nil,
    Function(String),
    Brackets(Pipeline, Vec<String>),
}

fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError::Syntax(text.into())
}

pub(super) fn parse(pieces: &[Piece]) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces, at: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        End::Text => Ok(nodes),
        End::Close => Err(wrong("{{end}} without a beginning")),
        End::Else(_) => Err(wrong("{{else}} without a beginning")),
    }
}

struct Parser<'a> {
    pieces: &'a [Piece],
    at: usize,
}

/// What a block ended with; `else` may carry an `if` of its own.
enum End {
    Text,
    Close,
    Else(Vec<Token>),
}

impl Parser<'_> {
    fn block(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            match keyword {
                "end" if tokens.len() == 1 => return Ok((nodes, End::Close)),
                "else" => return Ok((nodes, End::Else(tokens[1..].to_vec()))),
                "if" | "with" | "range" => nodes.push(self.control(keyword, &tokens[1..])?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(wrong(format!("{{{{{keyword}}}}} is not supported")));
                }
                _ => nodes.push(plain(tokens)?),
            }
        }
        Ok((nodes, End::Text))
    }

    fn control(&mut self, keyword: &str, head: &[Token]) -> Result<Node, TemplateError> {
        let (body, end) = self.block()?;
        let otherwise = match end {
            End::Text => return Err(wrong(format!("{{{{{keyword}}}}} has no {{{{end}}}}"))),
            End::Close => Vec::new(),
            End::Else(tokens) => match tokens.first() {
                None => match self.block()? {
                    (nodes, End::Close) => nodes,
                    _ => return Err(wrong("{{else}} has no {{end}}")),
                },
                // `{{else if}}` shares the end of the whole.
                Some(Token::Word(word)) if word == keyword && keyword != "range" => {
                    vec![self.control(keyword, &tokens[1..])?]
                }
                Some(_) => return Err(wrong("{{else}} is followed by something else")),
            },
        };
        Ok(match keyword {
            "if" => Node::If { condition: pipeline(head)?, then: body, otherwise },
            "with" => Node::With { value: pipeline(head)?, then: body, otherwise },
            _ => {
                let (names, over) = range_head(head)?;
                Node::Range { names, over: pipeline(over)?, body, otherwise }
            }
        })
    }
}

/// Reads `$i, $x := …` of a range.
fn range_head(head: &[Token]) -> Result<(Vec<String>, &[Token]), TemplateError> {
    let Some(at) = head.iter().position(|token| *token == Token::Assign) else {
        return Ok((Vec::new(), head));
    };
    let mut names = Vec::new();
    for token in head[..at].iter().filter(|token| **token != Token::Comma) {
        match token {
            Token::Variable(name, fields) if fields.is_empty() => names.push(name.clone()),
            _ => return Err(wrong("{{range}} assigns to variables only")),
        }
    }
    if names.len() > 2 {
        return Err(wrong("{{range}} has at most two variables"));
    }
    Ok((names, &head[at + 1..]))
}

fn plain(tokens: &[Token]) -> Result<Node, TemplateError> {
    if let [Token::Variable(name, fields), Token::Assign, rest @ ..] = tokens
        && fields.is_empty()
    {
        return Ok(Node::Assign { name: name.clone(), value: pipeline(rest)? });
    }
    Ok(Node::Print(pipeline(tokens)?))
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, TemplateError> {
    let mut at = 0;
    let pipeline = commands(tokens, &mut at)?;
    if at < tokens.len() {
        return Err(wrong("a bracket is closed that was not opened"));
    }
    Ok(pipeline)
}

/// Reads up to the end or a closing bracket, which is left.
fn commands(tokens: &[Token], at: &mut usize) -> Result<Pipeline, TemplateError> {
    let mut commands: Pipeline = vec![Vec::new()];
    while let Some(token) = tokens.get(*at) {
        let operand = match token {
            Token::Close(_) => break,
            Token::Pipe => {
                commands.push(Vec::new());
                *at += 1;
                continue;
            }
            Token::Open => {
                *at += 1;
                let inner = self::commands(tokens, at)?;
                match tokens.get(*at) {
                    Some(Token::Close(names)) => Operand::Brackets(inner, names.clone()),
                    _ => return Err(wrong("a bracket is not closed")),
                }
            }
            Token::Field(names) => Operand::Field(names.clone()),
            Token::Variable(name, names) => Operand::Variable(name.clone(), names.clone()),
            Token::Text(text) => Operand::Text(text.clone()),
            Token::Number(number) => Operand::Number(*number),
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Bool(true),
                "false" => Operand::Bool(false),
                "nil" => Operand::Nil,
                name if super::functions::is_known(name) => Operand::Function(name.to_owned()),
                name => return Err(wrong(format!("function {name:?} is not supported"))),
            },
            Token::Assign | Token::Comma => return Err(wrong("unexpected sign in an action")),
        };
        *at += 1;
        commands.last_mut().expect("it begins with one").push(operand);
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(wrong("an action or a part of its pipeline is empty"));
    }
    Ok(commands)
}
