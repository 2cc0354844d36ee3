//! The native module betanet._core: PyO3 conversions and error mapping only.
