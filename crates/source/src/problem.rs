//! What is wrong with an object, said so that its owner can find it.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube_proxy_core::{Kind, ObjectName};

/// Longest value that is repeated in a problem, in characters.
const MAX_VALUE: usize = 80;
/// Of a name, a path or a reason that is longer than twice this, only this many characters at both ends are written.
const MAX_END: usize = 320;
/// Most problems that are kept of one object.
const MAX_PER_OBJECT: usize = 16;

/// Who has a problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An object. The kind is the text of [`Kind`], so that subjects have an order.
    Object {
        /// `Service`, `EndpointSlice`, `Node` or `ServiceCIDR`.
        kind: &'static str,
        /// Namespace and name.
        name: ObjectName,
    },
    /// A file of manifests that could not be read, or a document in it.
    Document {
        /// The file.
        file: Arc<Path>,
        /// Which of its documents, from 1; 0 is the file itself.
        document: usize,
    },
}

impl Subject {
    /// An object.
    pub fn object(kind: Kind, name: ObjectName) -> Self {
        Self::Object { kind: kind_text(kind), name }
    }

    /// The value of the metric label `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Object { kind, .. } => kind,
            Self::Document { .. } => "document",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object { kind, name } => write!(f, "{kind} {}", Line::of(name)),
            Self::Document { file, document: 0 } => write!(f, "{}", Line::of(file.display())),
            Self::Document { file, document } => {
                write!(f, "{}, document {document}", Line::of(file.display()))
            }
        }
    }
}

/// The name of a kind as a constant.
pub(crate) fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => Service::KIND,
        Kind::EndpointSlice => EndpointSlice::KIND,
        Kind::Node => Node::KIND,
        Kind::ServiceCidr => ServiceCIDR::KIND,
    }
}

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Whose problem it is.
    pub subject: Subject,
    /// The path of the field, like `spec.ports[0].port`; empty when it is about the whole object.
    pub field: String,
    /// The value that was found, shortened; empty when there is none to show.
    pub value: String,
    /// What is wrong, and what happens now.
    pub reason: String,
    /// Where it is written, for objects from manifests: file, document, line and column.
    pub place: Option<Arc<str>>,
}

/// `Service default/web: spec.externalIPs[1]: "10.0.0.300": not an IP address; ignored (services.yaml, document 2, line 7, column 5)`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)?;
        if !self.field.is_empty() {
            write!(f, ": {}", Line::of(&self.field))?;
        }
        if !self.value.is_empty() {
            write!(f, ": {:?}", self.value)?;
        }
        write!(f, ": {}", Line::of(&self.reason))?;
        match &self.place {
            Some(place) => write!(f, " ({})", Line::of(place)),
            None => Ok(()),
        }
    }
}

/// What others named, as part of one line of bounded length: control characters escaped, the middle of what is too long left out.
struct Line(String);

impl Line {
    fn of(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.chars().count();
        let left_out = MAX_END..length.saturating_sub(MAX_END);
        for (i, c) in self.0.chars().enumerate() {
            if i == left_out.start && !left_out.is_empty() {
                f.write_str("...")?;
            }
            match c {
                _ if left_out.contains(&i) => {}
                c if c.is_control() => write!(f, "{}", c.escape_debug())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Collects the problems of one object; the number is bounded, however bad the object is.
#[derive(Debug)]
pub(crate) struct Findings {
    subject: Subject,
    problems: Vec<Problem>,
    more: usize,
}

impl Findings {
    pub(crate) fn new(subject: Subject) -> Self {
        Self { subject, problems: Vec::new(), more: 0 }
    }

    /// Notes a problem. The field is only rendered if the problem is kept.
    pub(crate) fn add(&mut self, field: impl fmt::Display, value: &str, reason: impl fmt::Display) {
        self.add_at(field, value, reason, None);
    }

    /// Notes a problem and where it is written.
    pub(crate) fn add_at(
        &mut self,
        field: impl fmt::Display,
        value: &str,
        reason: impl fmt::Display,
        place: Option<Arc<str>>,
    ) {
        if self.problems.len() >= MAX_PER_OBJECT {
            self.more += 1;
            return;
        }
        self.problems.push(Problem {
            subject: self.subject.clone(),
            field: field.to_string(),
            value: shorten(value),
            reason: reason.to_string(),
            place,
        });
    }

    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        if self.more > 0 {
            self.problems.push(Problem {
                subject: self.subject,
                field: String::new(),
                value: String::new(),
                reason: format!("{} more problems like these", self.more),
                place: None,
            });
        }
        self.problems
    }
}

fn shorten(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}
