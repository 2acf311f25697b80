use super::*;

#[test]
fn a_traceparent_is_read_or_it_is_none() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (trace, span, sampled) = parse(good).unwrap();
    assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((span.to_string().as_str(), sampled), ("b7ad6b7169203331", true));
    assert!(!parse(&good.replace("-01", "-00")).unwrap().2);
    for bad in [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
    ] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

#[test]
fn a_ratio_is_from_nothing_to_everything() {
    assert_eq!(ratio("0.25"), Ok(0.25));
    for bad in ["1.5", "-1", "NaN", "x"] {
        assert!(ratio(bad).is_err(), "{bad}");
    }
}
