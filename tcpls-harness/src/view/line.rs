//! One line of a trace: its fields, as `docs/trace.md` has them. Fields that the page does not show are ignored.

use serde::Deserialize;

/// A line. Which fields there are depends on `what`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Line {
    pub(super) t: u64,
    pub(super) what: String,
    pub(super) at: Option<String>,
    pub(super) session: Option<u64>,
    pub(super) tcp: Option<u32>,
    pub(super) seq: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) content: Option<Content>,
    pub(super) highest: Option<u64>,
    pub(super) in_flight: Option<u64>,
    pub(super) sample: Option<u64>,
    pub(super) smoothed: Option<u64>,
    pub(super) min: Option<u64>,
    pub(super) is_lower_bound: Option<bool>,
    pub(super) estimate: Option<u64>,
    pub(super) choice: Option<String>,
    pub(super) unsent: Option<u64>,
    pub(super) zero_rtt: Option<bool>,
    pub(super) backup: Option<bool>,
    pub(super) lane: Option<bool>,
    pub(super) claim: Option<u64>,
    pub(super) alert: Option<Alert>,
    pub(super) owed_since: Option<u64>,
    pub(super) fault: Option<String>,
    pub(super) generation: Option<u64>,
    pub(super) requested: Option<bool>,
    pub(super) limit: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) streams: Option<u64>,
    pub(super) error: Option<Cause>,
    pub(super) socket: Option<u64>,
    pub(super) path: Option<Path>,
    pub(super) end: Option<String>,
    pub(super) transfer: Option<u64>,
    pub(super) stream: Option<u64>,
    pub(super) over: Option<bool>,
    pub(super) action: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) why: Option<String>,
    pub(super) local: Option<String>,
    pub(super) remote: Option<String>,
    pub(super) text: Option<String>,
    pub(super) name: Option<String>,
    pub(super) value: Option<f64>,
    pub(super) title: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) count: Option<u64>,
}

/// What a record contains.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Content {
    #[serde(default)]
    pub(super) frames: Vec<Frame>,
    pub(super) plain: Option<u64>,
    pub(super) alert: Option<Alert>,
    pub(super) handshake: Option<u8>,
    pub(super) invalid: Option<bool>,
}

/// A frame; only those of streams have a range.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Frame {
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) id: Option<u64>,
    pub(super) start: Option<u64>,
    pub(super) end: Option<u64>,
    pub(super) fin: Option<bool>,
}

/// An alert, with its name if it has one.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Alert {
    pub(super) number: u8,
    pub(super) name: Option<String>,
}

impl Alert {
    pub(super) fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("alert {} ({name})", self.number),
            None => format!("alert {}", self.number),
        }
    }
}

/// The number of a path, or its name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Path {
    Number(u64),
    Name(String),
}

impl Path {
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(_) => None,
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Number(_) => None,
        }
    }
}

/// An error code, with its name if it has one, or an error as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Cause {
    Code { code: u32, name: Option<String> },
    Text(String),
}

impl Cause {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Code { name: Some(name), .. } => name.clone(),
            Self::Code { code, .. } => format!("code {code:#x}"),
            Self::Text(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Line {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn fields_that_have_several_types_are_read() {
        let line = parsed(r#"{"t":1,"what":"connect","socket":2,"path":1}"#);
        assert_eq!(line.path.unwrap().number(), Some(1));
        let line = parsed(r#"{"t":1,"what":"fault","fault":"reset","path":"a","over":false}"#);
        assert_eq!(line.path.unwrap().name(), Some("a"));
        let line = parsed(r#"{"t":1,"what":"action","action":"join","path":null,"error":"no token"}"#);
        assert_eq!((line.path.is_none(), line.error.unwrap().text()), (true, "no token".to_owned()));
        let line = parsed(r#"{"t":1,"what":"closing","error":{"code":16,"name":null}}"#);
        assert_eq!(line.error.unwrap().text(), "code 0x10");
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let line =
            parsed(r#"{"t":1,"what":"scheduled","tcp":0,"choice":"send","unsent":7,"views":[{"tcp":0}],"new":{}}"#);
        assert_eq!((line.unsent, line.choice.as_deref()), (Some(7), Some("send")));
    }
}
