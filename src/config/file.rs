//! The TOML file as flat keys, each with its line.

use std::{
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::{ConfigError, Fault, Origin, layers::Raw};

/// Room for some thousand participants.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Every value of the file by its full key. A list becomes its items with spaces between: no value
/// of ours has a space in it that matters.
pub(super) fn read(path: &Path) -> Result<Vec<Raw>, ConfigError> {
    let text = text(path).map_err(|error| Fault {
        origin: None,
        problem: format!(
            "the configuration file {} can't be read: {error}",
            path.display()
        ),
        help: "check the path, or start without --config".into(),
    })?;
    let file = File {
        path: path.into(),
        text: &text,
    };
    let table = DeTable::parse(&text).map_err(|error| Fault {
        origin: Some(file.origin(error.span().map_or(0, |span| span.start))),
        problem: format!("it is not valid TOML: {}", error.message()),
        help: "see tercet.toml in the repository for every key".into(),
    })?;
    let mut values = Vec::new();
    let mut faults = Vec::new();
    file.flatten("", table.get_ref(), &mut values, &mut faults);
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(ConfigError { faults })
    }
}

/// Reads one byte more than there may be, so that a device that never ends is no danger.
fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

struct File<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Origin::File {
            path: Arc::clone(&self.path),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }

    fn flatten(
        &self,
        prefix: &str,
        table: &DeTable<'_>,
        values: &mut Vec<Raw>,
        faults: &mut Vec<Fault>,
    ) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let origin = self.origin(name.span().start);
            if let DeValue::Table(table) = value.get_ref() {
                self.flatten(&format!("{key}."), table, values, faults);
                continue;
            }
            match text_of(value.get_ref()) {
                Some(value) => values.push(Raw { key, value, origin }),
                None => faults.push(Fault {
                    origin: Some(origin),
                    problem: format!("{key} can't be a {}", value.get_ref().type_str()),
                    help: "write a text, a whole number, true or false, or a list of texts".into(),
                }),
            }
        }
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|it| it.get_ref().as_str()).collect();
            Some(items?.join(" "))
        }
        DeValue::Boolean(is_so) => Some(is_so.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
