//! What is printed: aligned tables of at most 100 columns, or JSON.

use std::{
    fmt,
    io::{self, Write as _},
};

use clap::ValueEnum;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

use super::Problem;

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; messages as protobuf JSON.
    Json,
}

/// The widest line of a table.
const WIDTH_MAX: usize = 100;
/// A column is never cut down below this.
const COLUMN_WIDTH_MIN: usize = 8;
const GAP: &str = "  ";

/// Prints one JSON value.
pub(crate) fn json(value: &Value) -> Result<(), Problem> {
    text(&format!("{value:#}\n"))
}

/// Prints one JSON value on one line, as one of many.
pub(crate) fn json_line(value: &Value) -> Result<(), Problem> {
    text(&format!("{value}\n"))
}

/// Prints text as it is, at once. A reader that has seen enough (`| head`) ends the program.
pub(crate) fn text(text: &str) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| {
            Problem::new(
                format!("standard output can't be written: {error}"),
                "check where it goes",
            )
        }),
    }
}

/// A message of the API as its protobuf JSON, which has no form for a time outside of protobuf's range.
pub(crate) fn message(name: &str, message: &impl Message) -> Result<Value, Problem> {
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor(name), bytes.as_slice())
        .expect("the SDK and the coordinator are built from the same API");
    serde_json::to_value(message).map_err(|error| {
        Problem::new(
            format!("the coordinator's answer can't be shown: {error}"),
            "see that --server names a tercet coordinator of this release",
        )
    })
}

/// How a message of the API is made.
pub(crate) fn descriptor(name: &str) -> MessageDescriptor {
    DescriptorPool::decode(tercet::proto::DESCRIPTORS)
        .ok()
        .and_then(|pool| pool.get_message_by_name(name))
        .expect("the descriptors come from a compiler, and the name from the API")
}

/// Rows under a header, each column as wide as it must be.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(ToString::to_string).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // A line break in a cell would break the table.
        let cells = cells
            .into_iter()
            .map(|cell| cell.replace(['\n', '\r', '\t'], " "));
        self.rows.push(cells.collect());
    }

    /// As wide as the longest cell; when that is too much in all, the widest give way first.
    fn widths(&self) -> Vec<usize> {
        let columns = self.rows[0].len();
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(longest).collect();
        let room = WIDTH_MAX - GAP.len() * columns.saturating_sub(1);
        while widths.iter().sum::<usize>() > room {
            let Some(widest) = widths.iter_mut().max().filter(|it| **it > COLUMN_WIDTH_MIN) else {
                break;
            };
            *widest -= 1;
        }
        widths
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let cell = cut(cell, *width);
                line.push_str(&format!("{cell:width$}{GAP}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text, ending in … when it doesn't fit.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_blank_end() {
        let mut table = Table::new(&["ID", "STATE"]);
        table.row(["order-1".into(), "TRYING".into()]);
        table.row(["o".into(), "".into()]);
        assert_eq!(table.to_string(), "ID       STATE\norder-1  TRYING\no\n");
    }

    #[test]
    fn a_table_fits_100_columns_and_the_widest_cell_gives_way() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.row(["a".repeat(20), "b".repeat(300), "c".repeat(20)]);
        let text = table.to_string();
        let row = text.lines().nth(1).expect("a row");
        assert_eq!(row.chars().count(), WIDTH_MAX);
        assert!(
            row.starts_with(&"a".repeat(20)) && row.ends_with(&"c".repeat(20)),
            "{row}"
        );
        assert!(row.contains("b…"), "{row}");
    }

    #[test]
    fn a_time_that_protobuf_does_not_know_is_a_problem_not_a_panic() {
        use tercet::proto::tercet::v1::Transaction;
        let time = |seconds| Transaction {
            create_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Transaction::default()
        };
        for seconds in [i64::MIN, i64::MAX, 253_402_300_800] {
            message("tercet.v1.Transaction", &time(seconds)).expect_err("there is no such time");
        }
        message("tercet.v1.Transaction", &time(253_402_300_799)).expect("the year 9999 ends");
    }

    #[test]
    fn a_cell_keeps_its_row_whatever_is_in_it() {
        let mut table = Table::new(&["A"]);
        table.row(["two\nlines".into()]);
        assert_eq!(table.to_string().lines().count(), 2);
    }
}
