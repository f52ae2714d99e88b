//! One file as a module: what it declares, what it imports and what it names.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::{Token, tokens};

/// Segments of a path, as written.
pub(super) type Path = Vec<String>;

/// A file.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Modules in files of their own.
    pub(super) children: BTreeSet<String>,
    /// Names of the items that are defined here.
    pub(super) defined: BTreeSet<String>,
    /// Imported names with what they stand for.
    pub(super) imports: BTreeMap<String, Path>,
    /// Imports of everything.
    pub(super) globs: Vec<Path>,
    /// Imported names that are only passed on: `pub use` of what nothing else here names.
    pub(super) passed_on: BTreeSet<String>,
    /// Imports without a name (`as _`).
    pub(super) nameless: Vec<Path>,
    /// Every path of two segments or more outside of `use`.
    pub(super) paths: BTreeSet<Path>,
}

impl Module {
    /// Reads a file.
    pub(super) fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let mut module = Self::default();
        let mut public = BTreeSet::new();
        let mut named = BTreeSet::new();
        let mut at = 0;
        while at < tokens.len() {
            let before = at.checked_sub(1).map(|before| tokens[before]);
            match tokens[at] {
                Token::Word("use") => {
                    let end = at + position(&tokens[at..], ';');
                    let is_public = matches!(before, Some(Token::Word("pub") | Token::Mark(')')));
                    module.import(&tokens[at + 1..end], is_public, &mut public);
                    at = end;
                }
                Token::Word("mod") if tokens.get(at + 2) == Some(&Token::Mark(';')) => {
                    module.children.extend(word(&tokens, at + 1));
                    at += 2;
                }
                Token::Word(
                    "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union"
                    | "mod",
                ) => {
                    module.defined.extend(word(&tokens, at + 1));
                }
                Token::Word("macro_rules") => module.defined.extend(word(&tokens, at + 2)),
                Token::Word(_) if before == Some(Token::Mark('.')) => {}
                Token::Word(_) => {
                    let path = path(&tokens[at..]);
                    at += 3 * (path.len() - 1);
                    named.insert(path[0].clone());
                    if path.len() > 1 {
                        module.paths.insert(path);
                    }
                }
                Token::Mark(_) => {}
            }
            at += 1;
        }
        module.passed_on = public.difference(&named).cloned().collect();
        module
    }

    /// Reads a `use`, of which `tokens` is what stands between the word and the semicolon.
    fn import(&mut self, tokens: &[Token<'_>], is_public: bool, public: &mut BTreeSet<String>) {
        for (path, alias) in tree(tokens, &Path::new()) {
            let last = path.last().cloned().unwrap_or_default();
            let name = alias.unwrap_or_else(|| last.clone());
            if last == "*" {
                self.globs.push(path[..path.len() - 1].to_vec());
            } else if name == "_" {
                self.nameless.push(path);
            } else {
                if is_public {
                    public.insert(name.clone());
                }
                self.imports.insert(name, path);
            }
        }
    }
}

fn position(tokens: &[Token<'_>], mark: char) -> usize {
    tokens.iter().position(|token| *token == Token::Mark(mark)).unwrap_or(tokens.len())
}

fn word(tokens: &[Token<'_>], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(Token::Word(word)) => Some((*word).to_owned()),
        _ => None,
    }
}

/// The path that starts here: `a::b::c`.
fn path(tokens: &[Token<'_>]) -> Path {
    let mut segments = Path::new();
    let mut at = 0;
    while let Some(segment) = word(tokens, at) {
        segments.push(segment);
        if tokens.get(at + 1..at + 3) != Some(&[Token::Mark(':'), Token::Mark(':')]) {
            break;
        }
        at += 3;
    }
    segments
}

/// The paths of a `use` tree, with their other names.
fn tree(tokens: &[Token<'_>], prefix: &[String]) -> Vec<(Path, Option<String>)> {
    let mut found = Vec::new();
    for branch in branches(tokens) {
        let mut segments = prefix.to_vec();
        let mut alias = None;
        let mut at = 0;
        let mut nested = false;
        while at < branch.len() {
            match branch[at] {
                Token::Word("as") => {
                    alias = word(branch, at + 1);
                    at += 1;
                }
                Token::Word("self") if !segments.is_empty() => {}
                Token::Word(word) => segments.push(word.to_owned()),
                Token::Mark('*') => segments.push("*".to_owned()),
                Token::Mark('{') => {
                    found.extend(tree(&branch[at + 1..branch.len() - 1], &segments));
                    nested = true;
                    break;
                }
                Token::Mark(_) => {}
            }
            at += 1;
        }
        if !nested && !branch.is_empty() {
            found.push((segments, alias));
        }
    }
    found
}

/// Splits at the commas outside of braces.
fn branches<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t [Token<'a>]> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth = depth.saturating_sub(1),
            Token::Mark(',') if depth == 0 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[start..]);
    found
}

#[test]
fn a_file_is_read() {
    let module = Module::read(
        "mod a; pub use a::{self as b, C, d::{E as F, g::*}}; use super::T as _; struct S; \
         fn f(c: C) { super::h::i(c.super_::j) }",
    );
    let paths = |paths: &[Path]| paths.iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(module.children, BTreeSet::from(["a".to_owned()]));
    assert_eq!(module.imports["b"].join("::"), "a");
    assert_eq!(module.imports["F"].join("::"), "a::d::E");
    assert_eq!(paths(&module.globs), ["a::d::g"]);
    assert_eq!(paths(&module.nameless), ["super::T"]);
    assert_eq!(module.passed_on, BTreeSet::from(["F".to_owned(), "b".to_owned()]));
    assert_eq!(module.paths.len(), 1);
    assert!(module.defined.contains("S") && module.defined.contains("f"));
}
