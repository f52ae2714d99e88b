//! Leaves secrets out of text that goes to others.

/// What stands in their place.
pub const LEFT_OUT: &str = "[left out]";

/// Words after which a value is a secret, in lower case and without separators.
const NAMES: [&str; 13] = [
    "token",
    "password",
    "passwd",
    "secret",
    "authorization",
    "secretkey",
    "accesskey",
    "apikey",
    "privatekey",
    "clientkeydata",
    "clientcertificatedata",
    "certificateauthoritydata",
    "credential",
];

/// The text without what is or looks like a secret: keys in PEM, values after telling names, web tokens, passwords in URLs.
pub fn left_out(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut pem = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN ") && !line.contains("-----END ") {
            pem = true;
            result.push_str(LEFT_OUT);
            result.push('\n');
        } else if pem {
            pem = !line.contains("-----END ");
        } else if line.contains("-----BEGIN ") {
            result.push_str(LEFT_OUT);
            result.push('\n');
        } else {
            self::line(line, &mut result);
        }
    }
    result
}

fn line(line: &str, result: &mut String) {
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        result.push_str(&self::word(word));
        rest = after;
        if names_a_secret(word) {
            rest = skip_value(rest, result);
        }
        // The separator itself.
        let mut characters = rest.chars();
        if let Some(separator) = characters.next() {
            result.push(separator);
        }
        rest = characters.as_str();
    }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | ',' | ';' | '=' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>')
        || c == ':'
}

fn names_a_secret(word: &str) -> bool {
    let plain: String =
        word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.iter().any(|name| plain.ends_with(name)) || plain == "bearer"
}

/// Replaces the value behind a name, if one follows as `: value`, `=value` or `": "value"`; what is left after it.
fn skip_value<'a>(rest: &'a str, result: &mut String) -> &'a str {
    let assigns = |c: char| matches!(c, ':' | '=' | '"' | '\'' | ' ');
    let length = rest.find(|c| !assigns(c)).unwrap_or(rest.len());
    let (between, value) = rest.split_at(length);
    // A word in a sentence has a blank behind it and nothing else; `Bearer VALUE` has a value all the same.
    if value.trim().is_empty() || !between.contains([':', '=']) {
        return rest;
    }
    let quote = between.chars().next_back().filter(|c| matches!(c, '"' | '\''));
    let end = match quote {
        Some(quote) => value.find(quote),
        // `Authorization: Bearer VALUE` is two words.
        None => value.find(['\n', ',', ';', '}', ')']),
    };
    result.push_str(between);
    result.push_str(LEFT_OUT);
    &value[end.unwrap_or(value.len())..]
}

/// A word that is a secret by itself.
fn word(word: &str) -> String {
    if word.starts_with("eyJ") && word.matches('.').count() == 2 {
        return LEFT_OUT.to_owned();
    }
    // `//user:password@host` is cut at its colons: the part with the password has the host behind an @.
    if let Some((_, host)) = word.rsplit_once('@') {
        return format!("{LEFT_OUT}@{host}");
    }
    let kinds: [fn(&char) -> bool; 3] =
        [char::is_ascii_uppercase, char::is_ascii_lowercase, char::is_ascii_digit];
    let encoded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '_');
    let mixed = kinds.iter().all(|kind| word.chars().any(|c| kind(&c)));
    if word.len() >= 40 && mixed && word.chars().all(encoded) && !word.starts_with('/') {
        return LEFT_OUT.to_owned();
    }
    word.to_owned()
}

#[cfg(test)]
mod tests;
