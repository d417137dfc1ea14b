//! A filter's text, read from left to right: words, operators and values, each with its position.

use std::{fmt, iter::Peekable, str::CharIndices};

use super::faults::cut;

/// What was found where something else was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    position: usize,
    expected: String,
    found: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            expected,
            found,
        } = self;
        write!(
            f,
            "at position {position}: found {found}, expected {expected}"
        )
    }
}

/// A piece of text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes.
    pub(super) text: String,
    /// Of its first character, counted from 1.
    position: usize,
}

impl Word {
    /// It is something else than expected.
    pub(super) fn unexpected(&self, expected: &str) -> SyntaxError {
        SyntaxError {
            position: self.position,
            expected: expected.to_owned(),
            found: format!("{:?}", cut(&self.text, 20)),
        }
    }
}

/// Where reading has come to.
pub(super) struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            rest: text.char_indices().peekable(),
        }
    }

    /// Whether only spaces are left.
    pub(super) fn is_at_end(&mut self) -> bool {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        self.rest.peek().is_none()
    }

    /// A word without quotes.
    pub(super) fn word(&mut self, expected: &str) -> Result<Word, SyntaxError> {
        let position = self.begin(expected)?;
        let mut text = String::new();
        while let Some((_, c)) = self.rest.next_if(|(_, c)| is_word_char(*c)) {
            text.push(c);
        }
        self.complete(Word { text, position }, expected)
    }

    /// One of `=`, `!=`, `<`, `>`.
    pub(super) fn operator(&mut self, expected: &str) -> Result<Word, SyntaxError> {
        let position = self.begin(expected)?;
        let mut text = String::new();
        let first = self
            .rest
            .next_if(|(_, c)| matches!(c, '=' | '!' | '<' | '>'));
        text.extend(first.map(|(_, c)| c));
        if text == "!" {
            text.extend(self.rest.next_if(|(_, c)| *c == '=').map(|(_, c)| c));
        }
        let word = self.complete(Word { text, position }, expected)?;
        if word.text == "!" {
            return Err(word.unexpected(expected));
        }
        Ok(word)
    }

    /// A word, or text in quotes.
    pub(super) fn value(&mut self) -> Result<Word, SyntaxError> {
        const EXPECTED: &str = "a value";
        let position = self.begin(EXPECTED)?;
        if self.rest.next_if(|(_, c)| *c == '"').is_none() {
            return self.word(EXPECTED);
        }
        let mut text = String::new();
        loop {
            match self.rest.next().map(|(_, c)| c) {
                Some('"') => return Ok(Word { text, position }),
                Some('\\') => match self.rest.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    Some((at, c)) => {
                        let position = self.position(at);
                        let text = c.to_string();
                        let word = Word { text, position };
                        return Err(word.unexpected("\" or \\ after a \\"));
                    }
                    None => return Err(self.ended("the closing \"")),
                },
                Some(c) => text.push(c),
                None => return Err(self.ended("the closing \"")),
            }
        }
    }

    /// The position of what comes next, spaces left out.
    fn begin(&mut self, expected: &str) -> Result<usize, SyntaxError> {
        if self.is_at_end() {
            return Err(self.ended(expected));
        }
        let at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        Ok(self.position(at))
    }

    /// The word, unless a character stands there that begins none.
    fn complete(&mut self, word: Word, expected: &str) -> Result<Word, SyntaxError> {
        if !word.text.is_empty() {
            return Ok(word);
        }
        let found = self.rest.peek().map(|(_, c)| c.to_string());
        let position = word.position;
        let text = found.unwrap_or_default();
        Err(Word { text, position }.unexpected(expected))
    }

    fn ended(&self, expected: &str) -> SyntaxError {
        SyntaxError {
            position: self.position(self.text.len()),
            expected: expected.to_owned(),
            found: "the end".to_owned(),
        }
    }

    fn position(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }
}

fn is_word_char(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '=' | '!' | '<' | '>' | '"')
}
