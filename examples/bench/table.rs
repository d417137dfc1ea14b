//! The figures of a turn, and how they are shown.

use crate::measured::Measured;

/// One figure: its name in JSON, its heading, and how to read it, if it was measured.
pub struct Figure {
    pub name: &'static str,
    heading: &'static str,
    decimals: usize,
    pub of: fn(&Measured) -> Option<f64>,
}

const WIDTH: usize = 9;

pub const FIGURES: [Figure; 11] = [
    Figure {
        name: "transactions_per_s",
        heading: "tx/s",
        decimals: 0,
        of: |it| Some(it.transactions_per_s),
    },
    Figure {
        name: "p50_us",
        heading: "p50 us",
        decimals: 0,
        of: |it| Some(it.p50_us as f64),
    },
    Figure {
        name: "p99_us",
        heading: "p99 us",
        decimals: 0,
        of: |it| Some(it.p99_us as f64),
    },
    Figure {
        name: "p999_us",
        heading: "p999 us",
        decimals: 0,
        of: |it| Some(it.p999_us as f64),
    },
    Figure {
        name: "cpu_us",
        heading: "CPU us/tx",
        decimals: 1,
        of: |it| Some(it.cpu_us),
    },
    Figure {
        name: "coordinator_cpu_us",
        heading: "its own",
        decimals: 1,
        of: |it| it.coordinator.as_ref().map(|it| it.cpu_us),
    },
    Figure {
        name: "syncs",
        heading: "syncs/tx",
        decimals: 3,
        of: |it| Some(it.coordinator.as_ref()?.ended.as_ref()?.syncs),
    },
    Figure {
        name: "written_bytes",
        heading: "bytes/tx",
        decimals: 0,
        of: |it| it.coordinator.as_ref().map(|it| it.written_bytes),
    },
    Figure {
        name: "resident_kib",
        heading: "RSS KiB",
        decimals: 0,
        of: |it| it.coordinator.as_ref().map(|it| it.resident_kib as f64),
    },
    Figure {
        name: "resident_peak_kib",
        heading: "peak KiB",
        decimals: 0,
        of: |it| Some(it.coordinator.as_ref()?.resident_peak_kib as f64),
    },
    Figure {
        name: "fdatasync_us",
        heading: "sync us",
        decimals: 0,
        of: |it| Some(it.coordinator.as_ref()?.ended.as_ref()?.fdatasync_us as f64),
    },
];

/// The headings, to stand behind others.
pub fn headings() -> String {
    let headings = FIGURES.iter().map(|it| format!("{:>WIDTH$}", it.heading));
    headings.collect::<Vec<_>>().join(" ")
}

/// The figures, each below its heading.
pub fn figures(value: impl Fn(&Figure) -> Option<f64>) -> String {
    let cells = FIGURES.iter().map(|figure| match value(figure) {
        Some(value) => format!("{value:>WIDTH$.*}", figure.decimals),
        None => format!("{:>WIDTH$}", "-"),
    });
    cells.collect::<Vec<_>>().join(" ")
}
