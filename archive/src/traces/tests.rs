use super::*;

#[test]
fn a_ratio_is_from_nothing_to_everything() {
    assert_eq!(ratio("0.25"), Ok(0.25));
    for bad in ["1.5", "-1", "NaN", "x"] {
        assert!(ratio(bad).is_err(), "{bad}");
    }
}
