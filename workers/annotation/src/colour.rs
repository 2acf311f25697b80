//! Colours of HTML and CSS.

/// Returns whether a text is a colour: a name, `#` with hexadecimal digits, or a function such as
/// `rgb(0 0 0)`.
pub(crate) fn is_colour(text: &str) -> bool {
    // The parser also takes digits without `#`.
    let bare_digits = text.chars().all(|c| c.is_ascii_hexdigit());
    !bare_digits && csscolorparser::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_colour;

    #[test]
    fn names_digits_and_functions_are_colours() {
        for colour in ["#fff176", "#FFF", "RebeccaPurple", "rgb(1, 2, 3)", "hsl(120 50% 50%)"] {
            assert!(is_colour(colour), "{colour}");
        }
        for text in ["", "no colour at all", "fff176", "#ggg", "#ff", "url(x)", "red;x"] {
            assert!(!is_colour(text), "{text}");
        }
    }
}
