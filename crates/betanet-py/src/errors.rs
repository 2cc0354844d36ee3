//! The one place where errors of the core become exceptions. Their classes are Python's, in `betanet._errors`.

use betanet_mix::vrf::VrfError;
use betanet_noise::NoiseError;
use betanet_sphinx::{BuildError, KeyError, PacketError, SurbError};
use pyo3::prelude::*;
use pyo3::types::PyType;

const MODULE: &str = "betanet._errors";

/// Errors of the core that have a class of their own in Python.
pub(crate) trait IntoPy {
    /// The exception that says the same.
    fn into_py(self, py: Python<'_>) -> PyErr;
}

/// `result.or_raise(py)?` turns an error of the core into the exception.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T, E: IntoPy> OrRaise<T> for Result<T, E> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| error.into_py(py))
    }
}

impl IntoPy for PacketError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        let class = || -> PyResult<Bound<'_, PyType>> {
            Ok(py.import(MODULE)?.getattr("PACKET_ERRORS")?.get_item(self.reason())?.cast_into()?)
        };
        match class() {
            Ok(class) => PyErr::from_type(class, self.to_string()),
            Err(error) => error,
        }
    }
}

impl IntoPy for BuildError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        named(py, "BuildError", self.to_string())
    }
}

impl IntoPy for KeyError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        named(py, "InvalidKey", self.to_string())
    }
}

impl IntoPy for SurbError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        named(py, "InvalidSurb", self.to_string())
    }
}

impl IntoPy for VrfError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        let name = if self == Self::BadKey { "InvalidKey" } else { "InvalidProof" };
        named(py, name, self.to_string())
    }
}

impl IntoPy for NoiseError {
    fn into_py(self, py: Python<'_>) -> PyErr {
        match class(py, "NoiseError") {
            Ok(class) => PyErr::from_type(class, (self.to_string(), self.reason())),
            Err(error) => error,
        }
    }
}

impl IntoPy for getrandom::Error {
    fn into_py(self, py: Python<'_>) -> PyErr {
        named(py, "BetanetError", format!("the operating system gave no randomness: {self}"))
    }
}

/// An object that was closed, or that a forked child inherited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed(pub(crate) &'static str);

impl IntoPy for Closed {
    fn into_py(self, py: Python<'_>) -> PyErr {
        named(py, "Closed", format!("this {} is closed", self.0))
    }
}

/// The exception of class `name`.
pub(crate) fn named(py: Python<'_>, name: &str, message: String) -> PyErr {
    match class(py, name) {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

/// The class `name` of exceptions.
pub(crate) fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import(MODULE)?.getattr(name)?.cast_into()?)
}
