//! A tree and data as text.

use std::collections::HashMap;

use serde_json::{Number, Value};

use super::parser::{Command, Node, Operand, Pipeline};
use super::{HIDDEN, TemplateError, functions};

/// A template's output is bounded: nested ranges multiply.
const MAX_OUTPUT: usize = 64 << 20;

pub(super) fn render(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut evaluation =
        Evaluation { root: data, variables: HashMap::new(), output: String::new() };
    evaluation.nodes(nodes, data)?;
    Ok(evaluation.output)
}

pub(super) fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError::Evaluate(text.into())
}

struct Evaluation<'a> {
    root: &'a Value,
    variables: HashMap<String, Value>,
    output: String,
}

/// A value, or the name of the field that is not there: conditions take that for false, printing fails.
type Found = Result<Value, String>;

impl Evaluation<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            self.node(node, dot)?;
            if self.output.len() > MAX_OUTPUT {
                return Err(wrong("the output is larger than 64 MiB"));
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.output.push_str(text),
            Node::Print(pipeline) => {
                let value = self.value(pipeline, dot)?;
                self.output.push_str(&functions::text(&value));
            }
            Node::Assign { name, value } => {
                let value = self.value(value, dot)?;
                self.variables.insert(name.clone(), value);
            }
            Node::If { condition, then, otherwise } => {
                let chosen =
                    self.pipeline(condition, dot)?.is_ok_and(|value| functions::truth(&value));
                self.nodes(if chosen { then } else { otherwise }, dot)?;
            }
            Node::With { value, then, otherwise } => match self.pipeline(value, dot)? {
                Ok(value) if functions::truth(&value) => self.nodes(then, &value)?,
                _ => self.nodes(otherwise, dot)?,
            },
            Node::Range { names, over, body, otherwise } => {
                let items = items(self.pipeline(over, dot)?.unwrap_or(Value::Null))?;
                if items.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                for (key, item) in items {
                    match &names[..] {
                        [] => {}
                        [value] => drop(self.variables.insert(value.clone(), item.clone())),
                        [index, value, ..] => {
                            self.variables.insert(index.clone(), key);
                            self.variables.insert(value.clone(), item.clone());
                        }
                    }
                    self.nodes(body, &item)?;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        self.pipeline(pipeline, dot)?.map_err(|name| wrong(format!("there is no field {name}")))
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Found, TemplateError> {
        let mut last: Option<Found> = None;
        for command in pipeline {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Ok(Value::Null)))
    }

    fn command(
        &mut self,
        command: &Command,
        piped: Option<Found>,
        dot: &Value,
    ) -> Result<Found, TemplateError> {
        let mut arguments = Vec::new();
        for operand in &command[1..] {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        if let Operand::Function(name) = &command[0] {
            return functions::call(name, arguments);
        }
        if let (Operand::Field(names), [argument]) = (&command[0], &arguments[..]) {
            return method(names, argument, dot);
        }
        if !arguments.is_empty() {
            return Err(wrong("a value that is no function was given arguments"));
        }
        self.operand(&command[0], dot)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Found, TemplateError> {
        match operand {
            Operand::Field(names) => follow(dot, names),
            Operand::Variable(name, names) if name.is_empty() => follow(self.root, names),
            Operand::Variable(name, names) => match self.variables.get(name) {
                Some(value) => follow(value, names),
                None => Err(wrong(format!("there is no variable ${name}"))),
            },
            Operand::Text(text) => Ok(Ok(Value::from(text.as_str()))),
            Operand::Number(number) => Ok(Ok(whole(*number))),
            Operand::Bool(value) => Ok(Ok(Value::Bool(*value))),
            Operand::Nil => Ok(Ok(Value::Null)),
            Operand::Function(name) => functions::call(name, Vec::new()),
            Operand::Brackets(pipeline, names) => match self.pipeline(pipeline, dot)? {
                Ok(value) => follow(&value, names),
                missing => Ok(missing),
            },
        }
    }
}

/// Whole numbers stay whole.
#[expect(clippy::cast_possible_truncation, reason = "it is whole and below 2^53")]
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// Follows names from `value`. The exact name counts first, then one that differs in case: the engine's JSON
/// says `Id` where docker's own types say `ID`.
fn follow(value: &Value, names: &[String]) -> Result<Found, TemplateError> {
    let mut value = value;
    for name in names {
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(Err(name.clone())),
            _ => return Err(wrong(format!("cannot take the field {name} of a {}", kind(value)))),
        };
        let near = || fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        match fields.get(name).or_else(near) {
            Some(found) => value = found,
            None => return Ok(Err(name.clone())),
        }
    }
    Ok(Ok(value.clone()))
}

/// `.Label "x"`: the one method that docker's rows have.
fn method(names: &[String], argument: &Found, dot: &Value) -> Result<Found, TemplateError> {
    let (Some(name), Ok(Value::String(key))) = (names.last(), argument) else {
        return Err(wrong("a field was given an argument"));
    };
    match dot.get(format!("{HIDDEN}{name}")) {
        Some(labels) => Ok(Ok(labels.get(key).cloned().unwrap_or_else(|| Value::from("")))),
        None => Err(wrong(format!("the field {name} takes no argument"))),
    }
}

/// What a range goes over, with indexes or keys.
fn items(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect())
        }
        Value::Object(fields) => {
            // Go goes over the keys of a map in their order.
            let mut items: Vec<(String, Value)> = fields.into_iter().collect();
            items.sort_by(|one, other| one.0.cmp(&other.0));
            Ok(items.into_iter().map(|(key, item)| (Value::from(key), item)).collect())
        }
        other => Err(wrong(format!("cannot range over a {}", kind(&other)))),
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
