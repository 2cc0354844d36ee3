//! Courier
