//! A concept with a query whose worker a test brings along or omits.

/// Its spec.
pub const SPEC: &str = "concept Weathering\npurpose to know the sky over a town\n\
queries\n    _getSky (town: String) : (sky: String)?\n";

/// A rule with the query, for the path `/sky`.
pub const RULE: &str = r#"
sync AskSky
when
    Requesting.request (path: "/sky", town) : (request)
where
    Weathering._getSky (town) : (sky)
        else Requesting.respond (request, error: "no sky", status: 404)
then
    Requesting.respond (request, sky)
"#;
