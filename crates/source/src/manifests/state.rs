//! What all files together say, and what they said before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube_proxy_core::{Event, Kind, ObjectName};

use super::document::{self, Loaded};
use super::files::{self, Found, Stamp};
use crate::context::Context;
use crate::problem::{Findings, Problem, Subject};
use crate::problems::Problems;

/// The order in which kinds are announced: what others depend on comes first.
const KINDS: [Kind; 4] = [Kind::Node, Kind::ServiceCidr, Kind::Service, Kind::EndpointSlice];

/// What every file said last.
pub(super) struct State {
    path: PathBuf,
    node_name: String,
    context: Context,
    files: BTreeMap<PathBuf, File>,
    directories: BTreeSet<PathBuf>,
    /// What was wrong with the path and the directories, as text, so that a change shows.
    errors: Vec<(PathBuf, String)>,
    /// Nothing was read yet.
    first: bool,
}

/// What one file said last.
struct File {
    stamp: Stamp,
    objects: Vec<Loaded>,
    problems: Vec<Problem>,
}

/// What there is to announce.
pub(super) struct Outcome {
    /// A list of every kind.
    pub(super) events: Vec<Event>,
    /// Everything that is wrong.
    pub(super) problems: Vec<Problem>,
    /// The objects that the lists consist of.
    subjects: Vec<Subject>,
}

/// Updates the register of problems.
pub(super) fn report(outcome: &Outcome, register: &Problems) {
    let mut by_subject: BTreeMap<&Subject, Vec<Problem>> = BTreeMap::new();
    for problem in &outcome.problems {
        let entry = by_subject.entry(&problem.subject).or_default();
        entry.push(problem.clone());
    }
    for kind in KINDS {
        register.list_started(kind);
    }
    register.documents_started();
    for subject in &outcome.subjects {
        if !by_subject.contains_key(subject) {
            register.set(subject, Vec::new());
        }
    }
    for (subject, problems) in by_subject {
        register.set(subject, problems);
    }
    register.documents_done();
    for kind in KINDS {
        register.list_done(kind);
    }
}

impl State {
    pub(super) fn new(path: PathBuf, node_name: String, context: Context) -> Self {
        let directories = files::link_parents(&path).into_iter();
        let directories = directories.chain(path.is_dir().then(|| path.clone()));
        Self {
            directories: directories.collect(),
            path,
            node_name,
            context,
            files: BTreeMap::new(),
            errors: Vec::new(),
            first: true,
        }
    }

    /// Changes what objects are normalised with; before anything is read.
    pub(super) fn set_context(&mut self, context: Context) {
        self.context = context;
    }

    /// The file or directory that everything comes from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directories whose changes matter.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        self.directories.clone()
    }

    /// Reads what changed; `None` if nothing did.
    pub(super) fn reload(&mut self) -> Option<Outcome> {
        let first = std::mem::take(&mut self.first);
        let changed = match files::find(&self.path) {
            Ok(found) => self.take_files(found),
            // The path itself is gone for the moment: keep everything.
            Err(error) => self.set_errors(vec![(self.path.clone(), error)]),
        };
        (changed || first).then(|| self.outcome())
    }

    fn take_files(&mut self, found: Found) -> bool {
        self.directories = found.directories;
        let mut unreadable = found.errors;
        let present: BTreeSet<PathBuf> = found.files.iter().map(|(path, _)| path.clone()).collect();
        let known = self.files.len();
        // What is below a directory that cannot be read is not gone.
        self.files.retain(|path, _| {
            present.contains(path) || unreadable.iter().any(|(error, _)| path.starts_with(error))
        });
        let mut changed = self.files.len() != known;
        for (path, stamp) in found.files {
            if self.files.get(&path).is_some_and(|file| file.stamp == stamp) {
                continue;
            }
            match read(&path) {
                Ok(text) => {
                    self.take_text(path, stamp, &text);
                    changed = true;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.take_no_text(path, stamp, &error);
                    changed = true;
                }
                Err(error) => unreadable.push((path, error)),
            }
        }
        self.set_errors(unreadable) || changed
    }

    fn take_text(&mut self, path: PathBuf, stamp: Stamp, text: &str) {
        let file: Arc<Path> = Arc::from(path.as_path());
        let mut parsed = document::parse(&file, text, &self.node_name, &self.context);
        if parsed.broken
            && let Some(before) = self.files.remove(&path)
        {
            let new: BTreeSet<(&str, &ObjectName)> = parsed.objects.iter().map(key).collect();
            let kept = before.objects.into_iter();
            let kept: Vec<Loaded> = kept.filter(|object| !new.contains(&key(object))).collect();
            parsed.objects.extend(kept);
        }
        let file = File { stamp, objects: parsed.objects, problems: parsed.problems };
        self.files.insert(path, file);
    }

    /// A file that was read but is no text. It is not read again before it changes.
    fn take_no_text(&mut self, path: PathBuf, stamp: Stamp, error: &io::Error) {
        let problems = unreadable(&(path.clone(), error.to_string()));
        let objects = self.files.remove(&path).map(|before| before.objects).unwrap_or_default();
        self.files.insert(path, File { stamp, objects, problems });
    }

    /// `true` if the errors are not those of last time.
    fn set_errors(&mut self, errors: Vec<(PathBuf, io::Error)>) -> bool {
        let new = errors.into_iter().map(|(path, e)| (path, e.to_string()));
        let new: Vec<_> = new.collect();
        let differ = self.errors != new;
        self.errors = new;
        differ
    }

    /// Everything that the files say together. Of two objects with the same name the first counts.
    fn outcome(&self) -> Outcome {
        let mut seen: HashMap<(Kind, &ObjectName), &Loaded> = HashMap::new();
        let mut problems: Vec<Problem> = Vec::new();
        let mut events: HashMap<Kind, Vec<Event>> = HashMap::new();
        for object in self.files.values().flat_map(|file| &file.objects) {
            if let Some(first) = seen.get(&(object.kind, &object.name)) {
                problems.extend(duplicate(first, object));
                continue;
            }
            seen.insert((object.kind, &object.name), object);
            problems.extend(object.problems.iter().cloned());
            let of_kind = events.entry(object.kind).or_default();
            of_kind.extend(object.event.clone());
        }
        problems.extend(self.files.values().flat_map(|f| f.problems.iter().cloned()));
        problems.extend(self.errors.iter().flat_map(unreadable));
        let subjects = seen.into_keys();
        let subjects = subjects.map(|(kind, name)| Subject::object(kind, name.clone()));
        Outcome {
            subjects: subjects.collect(),
            events: KINDS
                .into_iter()
                .flat_map(|kind| list(kind, events.remove(&kind).unwrap_or_default()))
                .collect(),
            problems,
        }
    }
}

fn key(object: &Loaded) -> (&'static str, &ObjectName) {
    (crate::problem::kind_text(object.kind), &object.name)
}

/// A complete list of one kind.
fn list(kind: Kind, objects: Vec<Event>) -> impl Iterator<Item = Event> {
    let start = std::iter::once(Event::ListStarted(kind));
    start.chain(objects).chain(std::iter::once(Event::ListDone(kind)))
}

fn duplicate(first: &Loaded, second: &Loaded) -> Vec<Problem> {
    let subject = Subject::object(second.kind, second.name.clone());
    let mut findings = Findings::new(subject);
    let reason =
        format!("defined in {} and again in {}; the first counts", first.place, second.place);
    findings.add("metadata.name", &second.name.name, reason);
    findings.into_problems()
}

fn unreadable((path, reason): &(PathBuf, String)) -> Vec<Problem> {
    let mut findings =
        Findings::new(Subject::Document { file: Arc::from(path.as_path()), document: 0 });
    let reason = format!("cannot be read: {reason}; what it said before stays");
    findings.add("", "", reason);
    findings.into_problems()
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = files::read(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let reason = format!("not UTF-8 text, from byte {at} on");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}
