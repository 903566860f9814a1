//! As much of JSON as the programs speak: one value in a line, numbers without sign and fraction.

use std::str::Chars;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// # Panics
    /// When it is not the JSON described above.
    pub(crate) fn parse(line: &str) -> Self {
        let mut rest = line.chars();
        value(&mut rest)
            .filter(|_| rest.as_str().trim().is_empty())
            .unwrap_or_else(|| panic!("the program wrote {line:?}, which is no JSON from {:?} on", rest.as_str()))
    }

    /// A field of an object.
    ///
    /// # Panics
    /// When there is none of this name.
    pub(crate) fn field(&self, name: &str) -> &Self {
        let Self::Object(fields) = self else { panic!("{self:?} is not an object") };
        let field = fields.iter().find(|(key, _)| key == name);
        field.map_or_else(|| panic!("{self:?} has no field {name}"), |(_, value)| value)
    }

    /// A field that is a text.
    pub(crate) fn text(&self, name: &str) -> &str {
        let Self::Text(text) = self.field(name) else { panic!("{name} of {self:?} is not a text") };
        text
    }

    /// A field that is a number; `None` when it is null.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        match self.field(name) {
            Self::Number(number) => Some(*number),
            Self::Null => None,
            _ => panic!("{name} of {self:?} is not a number"),
        }
    }

    /// A field that is true or false; `None` when it is null.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.field(name) {
            Self::Bool(flag) => Some(*flag),
            Self::Null => None,
            _ => panic!("{name} of {self:?} is neither true nor false"),
        }
    }

    /// A field that is a list of texts, in ascending order.
    pub(crate) fn sorted_texts(&self, name: &str) -> Vec<&str> {
        let Self::List(items) = self.field(name) else { panic!("{name} of {self:?} is not a list") };
        let texts = items.iter().map(|item| match item {
            Self::Text(text) => text.as_str(),
            other => panic!("{other:?} is not a text"),
        });
        let mut texts: Vec<&str> = texts.collect();
        texts.sort_unstable();
        texts
    }
}

fn value(rest: &mut Chars<'_>) -> Option<Json> {
    *rest = rest.as_str().trim_start().chars();
    for (word, meaning) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
        if let Some(after) = rest.as_str().strip_prefix(word) {
            *rest = after.chars();
            return Some(meaning);
        }
    }
    match rest.clone().next()? {
        '"' => text(rest).map(Json::Text),
        '[' => list(rest, ']', value).map(Json::List),
        '{' => list(rest, '}', field).map(Json::Object),
        _ => number(rest).map(Json::Number),
    }
}

fn number(rest: &mut Chars<'_>) -> Option<u64> {
    let all = rest.as_str();
    let digits = all.len() - all.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    *rest = all[digits..].chars();
    all[..digits].parse().ok()
}

fn list<T>(rest: &mut Chars<'_>, end: char, item: fn(&mut Chars<'_>) -> Option<T>) -> Option<Vec<T>> {
    rest.next();
    let mut items = Vec::new();
    loop {
        *rest = rest.as_str().trim_start().chars();
        if let Some(after) = rest.as_str().strip_prefix(end) {
            *rest = after.chars();
            return Some(items);
        }
        if !items.is_empty() && rest.next()? != ',' {
            return None;
        }
        items.push(item(rest)?);
    }
}

fn field(rest: &mut Chars<'_>) -> Option<(String, Json)> {
    *rest = rest.as_str().trim_start().chars();
    let name = text(rest)?;
    if rest.next()? != ':' {
        return None;
    }
    Some((name, value(rest)?))
}

fn text(rest: &mut Chars<'_>) -> Option<String> {
    if rest.next()? != '"' {
        return None;
    }
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => text.push(escaped(rest)?),
            character => text.push(character),
        }
    }
}

fn escaped(rest: &mut Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'u' => {
            let digits: String = rest.by_ref().take(4).collect();
            char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
        }
        character => character,
    })
}

#[test]
fn what_the_programs_write_is_read() {
    let line =
        r#"{"event":"drop","ids":["a", "b"],"code":16,"none":[],"remote":null,"inbound":false,"text":"\u003e\"é\n"}"#;
    let json = Json::parse(line);
    assert_eq!(json.text("event"), "drop");
    assert_eq!(json.sorted_texts("ids"), ["a", "b"]);
    assert_eq!((json.number("code"), json.number("remote")), (Some(16), None));
    assert_eq!(json.field("none"), &Json::List(Vec::new()));
    assert_eq!(json.flag("inbound"), Some(false));
    assert_eq!(json.text("text"), ">\"é\n");
}
