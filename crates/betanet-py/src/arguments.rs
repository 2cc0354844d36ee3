//! Numbers from Python, within bounds that the error names. A truth value is no number here, though Python counts with it.

use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// Longest wait, so that a signal to the interpreter is not kept waiting for ever.
const MAX_WAIT: Duration = Duration::from_hours(24);

/// Workers of a pipeline.
pub(crate) fn num_workers(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    size(value, "num_workers", 1, 256)
}

/// Packets inside a pipeline.
pub(crate) fn queue_depth(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    size(value, "queue_depth", 1, usize::MAX)
}

/// Entries of a replay cache.
pub(crate) fn replay_capacity(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    size(value, "replay_capacity", 1, usize::MAX)
}

/// Packets wanted at a time.
pub(crate) fn max_packets(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    size(value, "max_packets", 0, usize::MAX)
}

/// A mean of delays.
pub(crate) fn mean_ns(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    integer(value, "mean_ns", 0, u64::MAX)
}

/// A share of all delays, in 2^64ths.
pub(crate) fn x(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    integer(value, "x", 0, u64::MAX)
}

/// A mean delay from Python's milliseconds.
pub(crate) fn mean_delay_ms(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let mean = number(value, "mean_delay_ms")?.and_then(|mean| Duration::try_from_secs_f64(mean / 1e3).ok());
    mean.filter(|mean| *mean <= Duration::from_hours(1))
        .ok_or_else(|| PyValueError::new_err("mean_delay_ms must be 0 to 3600000"))
}

/// A wait from Python's seconds.
pub(crate) fn timeout(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    match number(value, "timeout")? {
        Some(seconds) if seconds == f64::INFINITY => Ok(MAX_WAIT),
        seconds => seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|timeout| timeout.min(MAX_WAIT))
            .ok_or_else(|| PyValueError::new_err("timeout must be a number of seconds, 0 or more")),
    }
}

fn size(value: &Bound<'_, PyAny>, name: &str, least: usize, most: usize) -> PyResult<usize> {
    let bound = |size| u64::try_from(size).unwrap_or(u64::MAX);
    let number = integer(value, name, bound(least), bound(most))?;
    Ok(usize::try_from(number).unwrap_or(most))
}

fn integer(value: &Bound<'_, PyAny>, name: &str, least: u64, most: u64) -> PyResult<u64> {
    refuse_bool(value, name, "a whole number")?;
    let number = match value.extract::<u64>() {
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => {
            return Err(wrong_type(value, name, "a whole number"));
        }
        Err(error) if !error.is_instance_of::<PyOverflowError>(value.py()) => return Err(error),
        number => number.ok(),
    };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| PyValueError::new_err(format!("{name} must be {least} to {most}")))
}

/// The number, or `None` if it is too large for one.
fn number(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<f64>> {
    refuse_bool(value, name, "a number")?;
    match value.extract::<f64>() {
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => Err(wrong_type(value, name, "a number")),
        Err(error) if !error.is_instance_of::<PyOverflowError>(value.py()) => Err(error),
        Ok(number) if number.is_nan() => Err(PyValueError::new_err(format!("{name} is not a number"))),
        number => Ok(number.ok()),
    }
}

/// Refuses `True` and `False`, which Python takes for 1 and 0.
pub(crate) fn refuse_bool(value: &Bound<'_, PyAny>, name: &str, wanted: &str) -> PyResult<()> {
    if value.is_instance_of::<PyBool>() { Err(wrong_type(value, name, wanted)) } else { Ok(()) }
}

fn wrong_type(value: &Bound<'_, PyAny>, name: &str, wanted: &str) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {wanted}, not {kind}"))
}
