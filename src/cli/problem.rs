//! What a user is told when something went wrong: one line what, one line what to do.

use std::fmt;

/// Something that went wrong.
#[derive(Debug)]
pub(crate) struct Problem {
    what: String,
    help: String,
}

impl Problem {
    pub(crate) fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if self.help.is_empty() {
            return Ok(());
        }
        write!(f, "\n  {}", self.help)
    }
}

impl From<tercet::config::ConfigError> for Problem {
    /// Each fault brings its own line of help.
    fn from(error: tercet::config::ConfigError) -> Self {
        Self::new(error.to_string(), "")
    }
}

impl From<tercet::server::ConfigError> for Problem {
    fn from(error: tercet::server::ConfigError) -> Self {
        Self::new(
            error.to_string(),
            "correct it and run `tercet config check`",
        )
    }
}

impl From<tercet_sdk::client::Error> for Problem {
    fn from(error: tercet_sdk::client::Error) -> Self {
        use tercet_sdk::client::Error;
        match error {
            Error::Refused(refused) => refused.into(),
            Error::Address { .. } => Self::new(error.to_string(), "give it with --server"),
            Error::Indeterminate { .. } | Error::ProtectionOver => Self::new(error.to_string(), ""),
        }
    }
}

impl From<tercet_sdk::client::Refused> for Problem {
    fn from(refused: tercet_sdk::client::Refused) -> Self {
        let mut what = format!("{}: {}", refused.reason, refused.message);
        for violation in &refused.violations {
            what.push_str(&format!(
                "\n  {}: {}",
                violation.field, violation.description
            ));
        }
        Self::new(what, refused.help())
    }
}
