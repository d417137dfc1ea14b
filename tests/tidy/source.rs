//! The workspace's own source text: which files there are, and what in them is code.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every Rust file of the workspace but generated ones.
pub(crate) fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root(), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let path = path.strip_prefix(root()).expect("it was found there");
            let path = path.to_string_lossy().replace('\\', "/");
            let code = code_only(&read(&path));
            Source { path, code }
        })
        .collect()
}

/// One Rust file, with comments and the insides of literals blanked out, line for line.
pub(crate) struct Source {
    pub(crate) path: String,
    code: String,
}

impl Source {
    /// The module of the root crate that this file belongs to; none for the crate roots and for other crates.
    pub(crate) fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (!["lib", "main"].contains(&module)).then_some(module)
    }

    /// A file of which nothing ships.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .lines()
            .enumerate()
            .map(|(index, text)| (index + 1, text))
    }

    /// The lines before the file's own test module.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, text)| !text.starts_with("#[cfg(test)]"))
    }

    pub(crate) fn shipped_lines_with(&self, word: &str) -> impl Iterator<Item = (usize, &str)> {
        self.shipped_lines()
            .filter(move |(_, text)| words(text).any(|candidate| candidate == word))
    }

    /// What follows each `crate::` or `tercet::` that ships; each path of a group by itself.
    pub(crate) fn paths_known(&self) -> Vec<(usize, &str)> {
        let shipped: usize = self.shipped_lines().map(|(_, text)| text.len() + 1).sum();
        let code = &self.code[..shipped.min(self.code.len())];
        let mut known = Vec::new();
        for root in ["crate::", "tercet::"] {
            for (start, _) in code.match_indices(root) {
                if code[..start].ends_with(is_word) {
                    continue; // another crate's name that ends alike
                }
                let start = start + root.len();
                for (offset, path) in paths_of(&code[start..]) {
                    let line = code[..start + offset].matches('\n').count() + 1;
                    known.push((line, path));
                }
            }
        }
        known
    }
}

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file's text, by its path from the workspace's folder.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let skipped =
            name.starts_with('.') || ["target", "generated", "node_modules"].contains(&&*name);
        if path.is_dir() && !skipped {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The paths at the start of the text: `a::b` itself; `a::b` and `c` of the group `{a::b, c}`.
fn paths_of(text: &str) -> Vec<(usize, &str)> {
    if !text.starts_with('{') {
        let end = text.find(|c| !is_word(c) && c != ':').unwrap_or(text.len());
        return vec![(0, &text[..end])];
    }
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0_usize, 1);
    for (at, character) in text.char_indices() {
        let top_level = depth == 1;
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if top_level && (character == ',' || character == '}') {
            let path = text[start..at].trim_start();
            paths.push((at - path.len(), path));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    paths
}

/// The text with comments and the insides of literals replaced by spaces; lines stay where they are.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (kept, blanked) = next_token(rest);
        code.push_str(&rest[..kept]);
        code.extend(
            rest[kept..kept + blanked]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' }),
        );
        rest = &rest[kept + blanked..];
    }
    code
}

/// How many bytes to keep, then how many to blank out.
fn next_token(text: &str) -> (usize, usize) {
    let end = |closing: &str, from: usize| {
        text[from..]
            .find(closing)
            .map_or(text.len(), |at| from + at + closing.len())
    };
    if text.starts_with("//") {
        return (0, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (0, end("*/", 2));
    }
    if text.starts_with('"') {
        return (0, string_length(text));
    }
    if text.starts_with("'\\") {
        return (0, end("'", 3));
    }
    if let Some(quoted) = text.strip_prefix('\'').and_then(|t| t.chars().next())
        && text[1 + quoted.len_utf8()..].starts_with('\'')
    {
        return (0, quoted.len_utf8() + 2);
    }
    // A whole word at once, so that only a word that is `r` or `br` opens a raw string.
    let word = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let quote = text[word..].trim_start_matches('#');
    if ["r", "br"].contains(&&text[..word]) && quote.starts_with('"') {
        let hashes = text.len() - word - quote.len();
        let body = word + hashes + 1;
        return (word, end(&format!("\"{}", "#".repeat(hashes)), body) - word);
    }
    (word.max(text.chars().next().map_or(0, char::len_utf8)), 0)
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[test]
fn comments_and_literals_are_not_code() {
    for (text, code) in [
        ("a // b", "a     "),
        ("a /* b\n c */ d", "a     \n      d"),
        (
            r#"f("x\"y", 'q', '\'') + 'life"#,
            r#"f(      ,    ,     ) + 'life"#,
        ),
        ("r#\"a \" b\"# c", "r          c"),
        ("for\"x\"", "for   "),
    ] {
        assert_eq!(code_only(text), code, "of {text:?}");
    }
}

#[test]
fn a_group_of_paths_is_read_path_by_path() {
    let text = "{a::{b, c}, d::e,\n f};";
    let paths: Vec<&str> = paths_of(text).into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["a::{b, c}", "d::e", "f"]);
    assert_eq!(paths_of("a::b(c)"), [(0, "a::b")]);
}
