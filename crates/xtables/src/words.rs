//! Parts of rules, in the words of `iptables-save`.

use std::fmt::{self, Write as _};

use kube_proxy_core::LocalTrafficDetector;

/// The longest comment, in bytes: `XT_MAX_COMMENT_LEN` of `linux/netfilter/xt_comment.h` less the final zero.
const MAX_COMMENT: usize = 255;

/// The words that put a comment on a rule, with whatever could break the line replaced and cut to the length the kernel keeps.
pub fn comment_words(comment: impl fmt::Display) -> String {
    let mut text = String::new();
    write_comment(&mut text, comment);
    text
}

/// Appends [`comment_words`] to a rule.
pub fn write_comment(text: &mut String, comment: impl fmt::Display) {
    text.push_str("-m comment --comment \"");
    let mut writer = CommentWriter { text, left: MAX_COMMENT };
    write!(writer, "{comment}").expect("writing to a string does not fail");
    text.push('"');
}

/// Keeps a comment on one line, inside its quotes and short enough.
///
/// Names come from manifests too, where nothing checked them.
struct CommentWriter<'a> {
    text: &'a mut String,
    left: usize,
}

impl fmt::Write for CommentWriter<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars().take(self.left) {
            let harmless = c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '\'') || c == ' ';
            self.text.push(if harmless { c } else { '_' });
            self.left -= 1;
        }
        Ok(())
    }
}

/// The words that match packets from local pods, or `None` if they cannot be told.
pub fn if_local(detector: &LocalTrafficDetector) -> Option<String> {
    match detector {
        LocalTrafficDetector::None => None,
        LocalTrafficDetector::Cidr(net) => Some(format!("-s {}", net.trunc())),
        LocalTrafficDetector::Bridge(name) => Some(format!("-i {name}")),
        LocalTrafficDetector::InterfacePrefix(prefix) => Some(format!("-i {prefix}+")),
    }
}

/// The words of a rule, as a shell would split them: double quotes keep spaces, a backslash keeps the next character.
pub fn split_words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut quoted = false;
    let mut characters = rule.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_with(String::new);
            }
            '\\' => word.get_or_insert_with(String::new).extend(characters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_with(String::new).push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests;
