//! Which of the ways to multiply is used.

use std::ffi::OsString;
use std::sync::OnceLock;

use super::batch::{Scalars, one_by_one};
use super::{BASE, scalar};
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::Avx2,
    batch::{Engine as _, by_tables, in_lanes},
    ifma::{Ifma, Multiples},
};

/// Fewer multiples of the base point than this are not worth setting up the lanes.
const WORTH_A_BATCH: usize = 2;

/// The environment variable that forces a path; its values are the names of [`X25519Path`].
pub const PATH_VARIABLE: &str = "BETANET_X25519";

/// A way to compute batches. All give the same results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum X25519Path {
    /// Eight lanes of AVX-512 IFMA.
    Ifma,
    /// Four lanes of AVX2.
    Avx2,
    /// One by one.
    Scalar,
}

/// The machine lacks what a path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine cannot run the X25519 path `{}`: it needs {}", .path.name(), .path.needs())]
pub struct PathUnavailable {
    /// The path asked for.
    pub path: X25519Path,
}

/// Why the value of [`PATH_VARIABLE`] cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X25519PathError {
    /// It is not the name of a path.
    #[error("{PATH_VARIABLE}={value:?} names no X25519 path; use ifma, avx2 or scalar")]
    Unknown {
        /// What was found.
        value: OsString,
    },
    /// It names a path that cannot run here.
    #[error("{PATH_VARIABLE} is set, but {0}")]
    Unavailable(PathUnavailable),
}

impl X25519Path {
    /// Every path, the fastest first.
    pub const ALL: [Self; 3] = [Self::Ifma, Self::Avx2, Self::Scalar];

    /// The name by which [`PATH_VARIABLE`] and the benchmarks call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ifma => "ifma",
            Self::Avx2 => "avx2",
            Self::Scalar => "scalar",
        }
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        Backend::of(self).is_some()
    }

    /// The path of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Ifma => "an x86-64 processor with AVX-512F and AVX-512 IFMA",
            Self::Avx2 => "an x86-64 processor with AVX2 and FMA",
            Self::Scalar => "nothing",
        }
    }
}

/// The path that batches take in this process: the one named by [`PATH_VARIABLE`], else the fastest available.
///
/// The variable is read once. A program calls this at its start and stops on an error; batches computed in spite of it
/// take the fastest path.
///
/// # Errors
///
/// The variable names no path, or one that this machine lacks.
pub fn active_path() -> Result<X25519Path, X25519PathError> {
    active().as_ref().map(|backend| backend.path()).map_err(Clone::clone)
}

/// [`super::x25519_batch`] on the given path.
///
/// # Errors
///
/// This machine lacks the path; `out` is untouched.
pub fn x25519_batch_on(
    path: X25519Path,
    scalars: &[[u8; 32]],
    points: &[[u8; 32]],
    out: &mut [[u8; 32]],
) -> Result<(), PathUnavailable> {
    let backend = Backend::of(path).ok_or(PathUnavailable { path })?;
    backend.multiply(Scalars::Clamped, scalars, points, out);
    Ok(())
}

/// [`super::x25519_batch_unclamped`] on the given path.
///
/// # Errors
///
/// This machine lacks the path; `out` is untouched.
pub fn x25519_batch_unclamped_on(
    path: X25519Path,
    scalars: &[[u8; 32]],
    points: &[[u8; 32]],
    out: &mut [[u8; 32]],
) -> Result<(), PathUnavailable> {
    let backend = Backend::of(path).ok_or(PathUnavailable { path })?;
    backend.multiply(Scalars::Plain, scalars, points, out);
    Ok(())
}

/// Computes a batch on the active path.
pub(super) fn multiply(kind: Scalars, scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
    backend().multiply(kind, scalars, points, out);
}

/// Multiplies the base point on the active path.
pub(super) fn multiply_base(scalars: &[[u8; 32]], out: &mut [[u8; 32]]) {
    static BASE_TABLE: OnceLock<Option<Table>> = OnceLock::new();
    let table = BASE_TABLE.get_or_init(|| table_of(&BASE)).as_ref().filter(|_| scalars.len() >= WORTH_A_BATCH);
    match table {
        Some(table) => multiply_by_tables(scalars, &vec![table; scalars.len()], out),
        // One by one, the base point has tables that only eight lanes beat.
        None => out.iter_mut().zip(scalars).for_each(|(out, scalar)| *out = scalar::mul_base(scalar)),
    }
}

/// A point's multiples, in the form of the one path that is faster by them.
pub(super) enum Table {
    #[cfg(target_arch = "x86_64")]
    Ifma(Ifma, Multiples),
}

/// Whether the active path multiplies faster by tables.
pub(super) fn has_tables() -> bool {
    backend().path() == X25519Path::Ifma
}

/// The table of a point on the active path; `None` if that is no faster by tables, or the point has none.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "no lanes elsewhere"))]
pub(super) fn table_of(point: &[u8; 32]) -> Option<Table> {
    match backend() {
        #[cfg(target_arch = "x86_64")]
        Backend::Ifma(engine) => Multiples::of(point).map(|multiples| Table::Ifma(engine, multiples)),
        _ => None,
    }
}

/// Multiplies the points that the tables are of by the clamped scalars at their places.
pub(super) fn multiply_by_tables(scalars: &[[u8; 32]], tables: &[&Table], out: &mut [[u8; 32]]) {
    match tables.first() {
        #[cfg(target_arch = "x86_64")]
        Some(Table::Ifma(engine, _)) => by_tables(Ifma::LANES, scalars, tables, out, |scalars, tables, out| {
            let multiples: Vec<_> = tables.iter().map(|Table::Ifma(_, multiples)| multiples).collect();
            engine.multiples(scalars, &multiples, out);
        }),
        _ => {}
    }
}

/// A path together with the proof that it can run.
#[derive(Clone, Copy)]
enum Backend {
    #[cfg(target_arch = "x86_64")]
    Ifma(Ifma),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Scalar,
}

impl Backend {
    fn of(path: X25519Path) -> Option<Self> {
        match path {
            #[cfg(target_arch = "x86_64")]
            X25519Path::Ifma => Ifma::detect().map(Self::Ifma),
            #[cfg(target_arch = "x86_64")]
            X25519Path::Avx2 => Avx2::detect().map(Self::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            X25519Path::Ifma | X25519Path::Avx2 => None,
            X25519Path::Scalar => Some(Self::Scalar),
        }
    }

    fn fastest() -> Self {
        X25519Path::ALL.into_iter().find_map(Self::of).unwrap_or(Self::Scalar)
    }

    fn path(self) -> X25519Path {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(_) => X25519Path::Ifma,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => X25519Path::Avx2,
            Self::Scalar => X25519Path::Scalar,
        }
    }

    fn multiply(self, kind: Scalars, scalars: &[[u8; 32]], points: &[[u8; 32]], out: &mut [[u8; 32]]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Ifma(engine) => in_lanes(engine, kind, scalars, points, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(engine) => in_lanes(engine, kind, scalars, points, out),
            Self::Scalar => one_by_one(kind, scalars, points, out),
        }
    }
}

fn backend() -> Backend {
    active().as_ref().map_or_else(|_| Backend::fastest(), |backend| *backend)
}

/// The one place of this crate that reads the environment: the results are the same on every path, so the variable is a
/// matter of the process, not of a caller's settings.
fn active() -> &'static Result<Backend, X25519PathError> {
    static ACTIVE: OnceLock<Result<Backend, X25519PathError>> = OnceLock::new();
    ACTIVE.get_or_init(|| choose(std::env::var_os(PATH_VARIABLE)))
}

fn choose(forced: Option<OsString>) -> Result<Backend, X25519PathError> {
    let Some(value) = forced.filter(|value| !value.is_empty()) else {
        return Ok(Backend::fastest());
    };
    let Some(path) = value.to_str().and_then(X25519Path::from_name) else {
        return Err(X25519PathError::Unknown { value });
    };
    Backend::of(path).ok_or(X25519PathError::Unavailable(PathUnavailable { path }))
}

#[cfg(test)]
mod tests {
    use super::{Backend, X25519Path, X25519PathError, choose};

    #[test]
    fn without_a_wish_the_fastest_available_path_is_taken() {
        for wish in [None, Some(String::new().into())] {
            let fastest = X25519Path::ALL.into_iter().find(|path| path.is_available());
            assert_eq!(fastest, choose(wish).ok().map(Backend::path));
        }
    }

    #[test]
    fn a_wish_is_followed_or_refused_by_name() {
        for path in X25519Path::ALL {
            match choose(Some(path.name().into())) {
                Ok(backend) => assert_eq!(path, backend.path()),
                Err(error) => {
                    assert!(!path.is_available());
                    assert!(error.to_string().contains(path.name()), "{error}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_wish_is_refused_and_quoted() {
        for wish in ["avx512", "IFMA", "scalar "] {
            let error = choose(Some(wish.into())).err();
            assert_eq!(Some(X25519PathError::Unknown { value: wish.into() }), error);
            assert!(error.is_some_and(|error| error.to_string().contains(wish)));
        }
    }
}
