//! Prometheus's text format, from OpenMetrics, which `prometheus-client` writes. Every Prometheus reads it.

/// The value of the `Content-Type` header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Samples are the same in both formats. In the text format a counter's `HELP` and `TYPE` have the suffix of its samples,
/// `info` does not exist, and there is no end mark. `HELP` precedes the `TYPE` that decides on the suffix, so both lines of a
/// metric are converted together.
pub fn to_text(page: &str) -> String {
    let mut text = String::with_capacity(page.len() + page.len() / 8);
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '));
        let kind = lines
            .peek()
            .and_then(|next| next.strip_prefix("# TYPE "))
            .and_then(|rest| rest.split_once(' '));
        match (help, kind) {
            (Some((name, help)), Some((_, kind))) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", kind),
                };
                text.push_str(&format!(
                    "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
                ));
                lines.next();
            }
            _ if line == "# EOF" => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_have_the_names_of_their_samples() {
        let page = "# HELP a_b Help.\n# TYPE a_b counter\na_b_total{x=\"# EOF\"} 1\n# HELP i I.\n# TYPE i info\ni_info{v=\"1\"} 1\n\
                    # HELP g G.\n# TYPE g gauge\ng 2\n# EOF\n";
        let text = "# HELP a_b_total Help.\n# TYPE a_b_total counter\na_b_total{x=\"# EOF\"} 1\n# HELP i_info I.\n# TYPE i_info gauge\n\
                    i_info{v=\"1\"} 1\n# HELP g G.\n# TYPE g gauge\ng 2\n";
        assert_eq!(to_text(page), text);
    }
}
