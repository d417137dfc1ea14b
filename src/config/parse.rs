//! From text to values, one function for each kind. What they return as an error is one line that
//! says what the text should look like.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, time::Duration};

use tracing_subscriber::EnvFilter;

use super::{LogFormat, StoreLocation};
use crate::participants::EndpointUri;

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an address and a port, for example 127.0.0.1:7070".into())
}

pub(super) fn optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let address = text.parse().map(Some);
    address.map_err(|_| "write an address and a port, for example 127.0.0.1:9090, or off".into())
}

pub(super) fn store(text: &str) -> Result<StoreLocation, String> {
    match text.split_once(':') {
        None if text == "memory" => Ok(StoreLocation::Memory),
        Some(("sled", directory)) if !directory.is_empty() => {
            Ok(StoreLocation::Sled(PathBuf::from(directory)))
        }
        _ => Err("write sled:DIRECTORY, or memory for a trial that may lose everything".into()),
    }
}

/// Separated by commas or spaces.
pub(super) fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let separators = [',', ' ', '\n', '\t'];
    let words = text.split(separators).filter(|word| !word.is_empty());
    words.map(endpoint).collect()
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri = EndpointUri::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
    Ok(uri.as_str().to_owned())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        "write a number with its unit, for example 500ms, 30s, 5m, 24h or 7days".into()
    })
}

/// Longer than nothing, at most the longest a transaction may take.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_millis(1);
    const MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    within(duration(text)?, MIN..=MAX, "between 1ms and 7days")
}

pub(super) fn retention(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_secs(60);
    const MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
    within(duration(text)?, MIN..=MAX, "between 1m and 3650days")
}

fn within<T: PartialOrd>(
    value: T,
    range: std::ops::RangeInclusive<T>,
    help: &str,
) -> Result<T, String> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("it must be {help}"))
    }
}

/// Often enough to notice a dead peer soon, seldom enough to cost nothing.
pub(super) fn heartbeat(text: &str) -> Result<Duration, String> {
    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5 * 60);
    within(duration(text)?, MIN..=MAX, "between 100ms and 5m")
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".into())
}

/// A reader of whole numbers from `min` to `max`.
pub(super) fn number<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + Display + Copy,
{
    move |text| {
        let help = || format!("write a whole number between {min} and {max}");
        let value: T = text.parse().map_err(|_| help())?;
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(help())
        }
    }
}

/// Without the white space around its parts, which the library's parser cuts off and then counts all the
/// same: it takes the wrong part of a text for a target, or panics.
pub(super) fn log(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    let text = parts.join(",");
    EnvFilter::try_new(&text)
        .map(|_| text)
        .map_err(|error| format!("{error}; write for example info, or warn,tercet=debug"))
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write auto, text or json".into()),
    }
}
