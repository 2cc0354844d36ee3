use proptest::prelude::*;
use serde_json::Value;

use super::*;

const MEAN: Duration = Duration::from_millis(15);

/// INV-DELAY-04: to the nanosecond what `crates/vectors/delay_quantile.py` computes with 60 decimal digits.
#[test]
fn every_row_of_the_table_is_met_exactly() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../../vectors/delay_quantile.json")).unwrap();
    assert!(rows.len() > 400);
    for row in rows {
        let number = |name: &str| row[name].as_str().unwrap().parse::<u64>().unwrap();
        let mean = Duration::from_nanos(number("mean_ns"));
        assert_eq!(quantile(mean, number("x")), Duration::from_nanos(number("delay_ns")), "{row}");
    }
}

/// INV-DELAY-05: the ends of the range: nothing at zero, the cap from 1 − e⁻¹⁰ on, and no overflow for any mean.
#[test]
fn a_delay_is_at_most_ten_means() {
    assert_eq!(quantile(MEAN, 0), Duration::ZERO);
    assert_eq!(quantile(Duration::ZERO, u64::MAX), Duration::ZERO);
    assert_eq!(quantile(MEAN, u64::MAX), MEAN * 10);
    // 2⁶⁴ (1 − e⁻¹⁰) = 18445906592824258668.67…
    assert_eq!(quantile(MEAN, 18_445_906_592_824_258_669), MEAN * 10);
    assert!(quantile(MEAN, 18_445_906_592_000_000_000) < MEAN * 10);
    assert_eq!(quantile(Duration::MAX, u64::MAX), Duration::from_nanos(u64::MAX));
    assert_eq!(quantile(Duration::from_nanos(1), 1 << 63), Duration::ZERO);
}

/// The steps of the table and of the mantissa are where a slip would show.
#[test]
fn the_logarithm_is_continuous_at_its_seams() {
    for shift in 0..64 {
        for index in 32..=64_u64 {
            let seam = u128::from(index) << 58 >> shift;
            let Ok(survival) = u64::try_from(seam) else { continue };
            if survival < 2 {
                continue;
            }
            let (below, at) =
                (minus_ln_survival((survival - 1).wrapping_neg()), minus_ln_survival(survival.wrapping_neg()));
            // −ln falls by 1/survival or a little more from one to the next.
            let step = (1_u128 << FRACTION) / u128::from(survival);
            let fell = below - at;
            assert!(fell + 64 >= step && fell <= step + 2 * step / u128::from(survival) + 64, "{survival}");
        }
    }
}

proptest! {
    /// INV-DELAY-05
    #[test]
    fn a_larger_input_never_gives_a_smaller_delay(x: u64, step in 0_u64..1 << 20, mean in 0..60_000_000_000_u64) {
        let mean = Duration::from_nanos(mean);
        let delay = quantile(mean, x);
        prop_assert!(delay <= quantile(mean, x.saturating_add(step)));
        prop_assert!(delay <= mean * CAP_IN_MEANS);
    }
}
