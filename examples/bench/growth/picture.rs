//! The report as one picture, a panel for each question.

use std::{ops::Range, path::Path};

use anyhow::{Context as _, anyhow};
use plotters::{coord::Shift, prelude::*};

use super::{Report, branches, finished, unfinished};
use crate::mode::Mode;

const WIDTH: u32 = 1000;
const PANEL_HEIGHT: u32 = 330;
const COLUMNS: usize = 2;
const FONT: &str = "sans-serif";
const COLORS: [RGBColor; 3] = [
    RGBColor(31, 119, 180),
    RGBColor(217, 95, 2),
    RGBColor(44, 140, 60),
];

/// One diagram.
struct Panel {
    title: &'static str,
    x: Axis,
    y: Axis,
    /// Where no line is.
    legend: SeriesLabelPosition,
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
struct Axis {
    name: &'static str,
    scale: Scale,
}

#[derive(Clone, Copy)]
enum Scale {
    /// From 0.
    Linear,
    /// A step is a factor of this.
    Log(f64),
}

struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws what is in the report, if anything is.
pub fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let panels = panels(report);
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let height = PANEL_HEIGHT * u32::try_from(rows)?;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let drawn = || -> Result<(), DrawingAreaErrorKind<_>> {
        root.fill(&WHITE)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((rows, COLUMNS))) {
            panel.draw(&area)?;
        }
        root.present()
    };
    let drawn = drawn().map_err(|error| anyhow!("{error}"));
    drawn.with_context(|| format!("drawing {}", file.display()))
}

fn panels(report: &Report) -> Vec<Panel> {
    let mut panels = Vec::new();
    if let Some(part) = &report.finished {
        panels.extend(kept(&part.found.points));
    }
    if let Some(part) = &report.unfinished {
        panels.extend(start(&part.found.points));
    }
    if let Some(part) = &report.churn {
        let points = part.found.points.iter();
        let points = points.map(|it| (it.written as f64 / 1e3, it.disk_bytes as f64 / 1e6));
        panels.push(Panel {
            title: "The store on the disk, while the oldest go",
            x: linear("transactions written, thousands"),
            y: linear("MB"),
            legend: SeriesLabelPosition::LowerRight,
            lines: vec![line("files", points.collect())],
        });
    }
    if let Some(part) = &report.branches {
        panels.push(by_branches(&part.found.points));
    }
    panels
}

fn kept(points: &[finished::Point]) -> [Panel; 2] {
    let of = |figure: fn(&finished::Point) -> f64| {
        let points = points.iter().map(|it| (it.kept as f64 / 1e6, figure(it)));
        points.collect::<Vec<_>>()
    };
    let x = linear("finished transactions kept, millions");
    [
        Panel {
            title: "Throughput, 256 clients",
            x,
            y: linear("transactions/s"),
            legend: SeriesLabelPosition::LowerRight,
            lines: vec![line("median", of(|it| it.transactions_per_s))],
        },
        Panel {
            title: "Latency, 256 clients",
            x,
            y: linear("ms"),
            legend: SeriesLabelPosition::LowerRight,
            lines: vec![
                line("p99", of(|it| it.p99_us / 1e3)),
                line("p50", of(|it| it.p50_us / 1e3)),
            ],
        },
    ]
}

fn start(points: &[unfinished::Point]) -> [Panel; 2] {
    let of = |figure: fn(&unfinished::Point) -> f64| {
        let points = points.iter().map(|it| (it.unfinished as f64, figure(it)));
        points.collect::<Vec<_>>()
    };
    let x = logarithmic("unfinished transactions in the store, all due", 10.0);
    [
        Panel {
            title: "From the start to the first answer",
            x,
            y: logarithmic("s", 10.0),
            legend: SeriesLabelPosition::LowerRight,
            lines: vec![
                line("first answer", of(|it| it.first_answer_s)),
                line("listening", of(|it| it.listening_s)),
                line("target", of(|_| unfinished::FIRST_ANSWER_S)),
            ],
        },
        Panel {
            title: "Resident memory of a start",
            x,
            y: logarithmic("MiB", 10.0),
            legend: SeriesLabelPosition::LowerRight,
            lines: vec![
                line("at the most", of(|it| it.resident_peak_kib as f64 / 1024.0)),
                line(
                    "all scheduled",
                    of(|it| it.resident_scheduled_kib as f64 / 1024.0),
                ),
                line("target", of(|_| unfinished::RESIDENT_KIB / 1024.0)),
            ],
        },
    ]
}

fn by_branches(points: &[branches::Point]) -> Panel {
    let of = |mode| {
        let points = points.iter().filter(|it| it.mode == mode);
        let points = points.map(|it| {
            (
                it.branches as f64,
                it.transactions_per_s * it.branches as f64,
            )
        });
        line(&mode.to_string(), points.collect())
    };
    Panel {
        title: "Branches done, 32 clients",
        x: logarithmic("branches of a transaction", 2.0),
        y: linear("branches/s"),
        legend: SeriesLabelPosition::UpperLeft,
        lines: vec![of(Mode::Unary), of(Mode::Sessions)],
    }
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    let name = name.to_owned();
    Line { name, points }
}

fn linear(name: &'static str) -> Axis {
    let scale = Scale::Linear;
    Axis { name, scale }
}

fn logarithmic(name: &'static str, base: f64) -> Axis {
    let scale = Scale::Log(base);
    Axis { name, scale }
}

impl Axis {
    /// Where a value lies.
    fn place(self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log(base) => value.max(f64::MIN_POSITIVE).log(base),
        }
    }

    fn label(self, place: f64) -> String {
        let value = match self.scale {
            Scale::Linear => place,
            Scale::Log(base) => base.powf(place),
        };
        let (value, unit) = match value {
            value if value >= 1e6 => (value / 1e6, "M"),
            value if value >= 1e4 => (value / 1e3, "k"),
            value => (value, ""),
        };
        let exact = value >= 10.0 || (value - value.round()).abs() < 1e-6;
        let decimals = if exact { 0 } else { 2 };
        format!("{value:.decimals$}{unit}")
    }

    /// How many labels there are to be: on a logarithmic axis, one at each step.
    fn labels(self, range: &Range<f64>) -> usize {
        match self.scale {
            Scale::Linear => 7,
            Scale::Log(_) => (range.end - range.start) as usize + 1,
        }
    }

    /// From the lowest to the highest of these, with a little room.
    fn range(self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let places = values.map(|value| self.place(value));
        let (min, max) = places.fold((f64::MAX, f64::MIN), |(min, max), place| {
            (min.min(place), max.max(place))
        });
        match self.scale {
            Scale::Linear if max > 0.0 => 0.0..max * 1.1,
            Scale::Linear => 0.0..1.0,
            Scale::Log(_) => min.floor()..max.ceil().max(min.floor() + 1.0),
        }
    }
}

impl Panel {
    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let Self { x, y, .. } = *self;
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (across, up) = (x.range(all().map(|it| it.0)), y.range(all().map(|it| it.1)));
        let (x_labels, y_labels) = (x.labels(&across), y.labels(&up));
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(across, up)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(x.name)
            .y_desc(y.name)
            .x_labels(x_labels)
            .y_labels(y_labels)
            .x_label_formatter(&|place| x.label(*place))
            .y_label_formatter(&|place| y.label(*place))
            .label_style((FONT, 13))
            .draw()?;
        for (line, color) in self.lines.iter().zip(COLORS) {
            let points = line.points.iter();
            let points: Vec<_> = points.map(|it| (x.place(it.0), y.place(it.1))).collect();
            let circles = points.iter().map(|it| Circle::new(*it, 3, color.filled()));
            chart.draw_series(circles)?;
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
                });
        }
        if self.lines.len() == 1 {
            return Ok(());
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .label_font((FONT, 13))
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        Ok(())
    }
}
