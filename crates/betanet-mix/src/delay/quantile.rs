//! The exponential distribution by integers alone, so that every platform computes the same delay to the nanosecond.
//!
//! ```text
//! quantile(mean, x) = mean · min(−ln(1 − x/2⁶⁴), 10), rounded down to nanoseconds
//! ```
//!
//! The logarithm has 96 fractional bits, of which the last few are not exact. The product is therefore the true one
//! rounded down, unless that lies within 2⁻⁴⁰ ns of a whole number of nanoseconds; the steps in docs/spec/delays.md decide then.

use std::time::Duration;

use super::CAP_IN_MEANS;

/// Fractional bits of the logarithm.
const FRACTION: u32 = 96;

/// ln 2 · 2⁹⁶, rounded down.
const LN_2: u128 = 0xb172_17f7_d1cf_79ab_c9e3_b398;

/// ln(1 + i/32) · 2⁹⁶, rounded down.
const LN_TABLE: [u128; 32] = [
    0x0000_0000_0000_0000_0000_0000,
    0x07e0_a6c3_9e0c_c013_3e3f_04f1,
    0x0f85_1860_08b1_5330_be64_b8b7,
    0x16f0_d28a_e56b_4b9b_e499_b9ed,
    0x1e27_076e_2af2_e5e9_ea87_ffe1,
    0x252a_a5f0_3fea_4698_0bb8_e203,
    0x2bfe_60e1_4f27_a790_e7c4_140e,
    0x32a4_b539_e8ad_68ec_8260_ea71,
    0x391f_ef8f_3534_4358_4bb0_3de5,
    0x3f72_30da_bc7c_551a_aa8c_d86f,
    0x459d_72ae_ae98_380e_731f_55c4,
    0x4ba3_8aeb_8474_c270_b324_6a14,
    0x5186_2f08_717b_09f4_2dec_decc,
    0x5746_f6fd_6027_2942_3638_3dc7,
    0x5ce7_5fda_ef40_1a73_8931_4feb,
    0x6268_ce1b_0509_6ad6_9c62_0440,
    0x67cc_8fb2_fe61_2fca_da35_d9bd,
    0x6d13_ddef_323d_8a32_fbb6_aba6,
    0x723f_df1e_6a68_86b0_9760_7bcb,
    0x7751_a813_0712_82fb_989a_9274,
    0x7c4a_3d7e_bc1b_b2cd_720e_c44c,
    0x812a_952d_2e87_f634_e34a_ebf7,
    0x85f3_9721_2954_15b4_c4bd_d99e,
    0x8aa6_1e97_a6af_4d4c_799d_1cb2,
    0x8f42_faf3_8206_81ef_62cd_2f9f,
    0x93ca_f094_4d88_d75b_c1f9_edcb,
    0x983e_b99a_7885_f0fd_ac85_0fab,
    0x9c9f_069a_b150_cd4e_2213_01b6,
    0xa0ec_7f42_3395_7323_25e6_17a3,
    0xa527_c2ed_81f5_d811_3dfa_3d37,
    0xa951_6932_de2d_5773_be45_78ad,
    0xad6a_0261_acf9_67d9_4d55_2f81,
];

/// The delay that `uniform` out of 2⁶⁴ of all delays do not exceed: exponential with the given mean, capped at [`CAP_IN_MEANS`] means.
///
/// A mean above 580 years counts as 580 years.
#[must_use]
pub fn quantile(mean: Duration, uniform: u64) -> Duration {
    let mean = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
    let factor = minus_ln_survival(uniform).min(u128::from(CAP_IN_MEANS) << FRACTION);
    // factor < 2^100 and mean < 2^64: the product is taken in two halves that fit.
    let (high, low) = (factor >> 48, factor & LOW_48);
    let mean = u128::from(mean);
    let nanoseconds = (mean * high + ((mean * low) >> 48)) >> 48;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// −ln(1 − x/2⁶⁴) in units of 2⁻⁹⁶.
fn minus_ln_survival(x: u64) -> u128 {
    // 2⁶⁴ − x; zero stands for 2⁶⁴ itself.
    let survival = x.wrapping_neg();
    if survival == 0 {
        return 0;
    }
    let shift = survival.leading_zeros();
    // survival / 2⁶⁴ = m / 2^(shift + 1) with m in [1, 2)
    (u128::from(shift + 1) * LN_2).saturating_sub(ln_mantissa(survival << shift))
}

/// ln(m / 2⁶³) in units of 2⁻⁹⁶, for m with the top bit set.
fn ln_mantissa(m: u64) -> u128 {
    // c = 1 + i/32 is the entry below m, and ln m = ln c + 2 artanh z with z = (m − c)/(m + c) < 1/65.
    let index = (m >> 58) & 31;
    let c = (32 + index) << 58;
    let entry = usize::try_from(index).ok().and_then(|index| LN_TABLE.get(index)).copied().unwrap_or_default();
    let difference = u128::from(m - c);
    let sum = u128::from(m) + u128::from(c);
    // difference · 2⁹⁶ / sum by two divisions, since difference · 2⁹⁶ has up to 154 bits.
    let dividend = difference << 64;
    let z = ((dividend / sum) << 32) | (((dividend % sum) << 32) / sum);
    let z_squared = multiply(z, z);
    let (mut power, mut series) = (z, z);
    // z¹⁷/17 < 2⁻⁹⁶
    for odd in [3, 5, 7, 9, 11, 13, 15] {
        power = multiply(power, z_squared);
        series += power / odd;
    }
    entry + 2 * series
}

const LOW_48: u128 = (1 << 48) - 1;

/// a · b / 2⁹⁶, rounded down, for a and b below 2⁹⁶.
fn multiply(a: u128, b: u128) -> u128 {
    let (a_high, a_low) = (a >> 48, a & LOW_48);
    let (b_high, b_low) = (b >> 48, b & LOW_48);
    let middle = a_high * b_low + a_low * b_high + ((a_low * b_low) >> 48);
    a_high * b_high + (middle >> 48)
}

#[cfg(test)]
mod tests;
