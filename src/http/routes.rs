//! Which path leads where, and with which methods.

use super::HttpError;

/// Why a path that is not a route's is refused.
pub fn unknown_path(path: &str) -> HttpError {
    let of_alertmanager = ["/api/v1/alerts", "/api/v2/alerts"];
    if of_alertmanager.iter().any(|end| path.ends_with(end)) {
        HttpError::NotAnAlertmanager
    } else {
        HttpError::NotFound
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Notify,
    CheckHealth,
    CheckReadiness,
    Reload,
    ShowMetrics,
}

/// The usual spelling of a path, its methods, and what it is for. A metric has the path as a label: a sender must not be able
/// to create values.
pub type Route = (&'static str, &'static [&'static str], Action);

const ROUTES: [Route; 5] = [
    // Grafana can be set to PUT.
    ("/webhook", &["POST", "PUT"], Action::Notify),
    ("/-/healthy", &["GET", "HEAD"], Action::CheckHealth),
    ("/-/ready", &["GET", "HEAD"], Action::CheckReadiness),
    ("/-/reload", &["POST"], Action::Reload),
    ("/metrics", &["GET", "HEAD"], Action::ShowMetrics),
];

/// The route of a path. Doubled and trailing slashes do not matter: a URL with one too many is a usual mistake, and
/// Alertmanager gives up after a 404.
pub fn find(path: &str) -> Option<Route> {
    let segments = |path: &'static str| path.split('/').skip(1);
    let given = || path.split('/').filter(|segment| !segment.is_empty());
    let is_rooted = path.starts_with('/');
    let mut routes = ROUTES.into_iter();
    routes.find(|(path, ..)| is_rooted && given().eq(segments(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_too_many_do_not_change_a_path() {
        for route in ROUTES {
            let path = route.0;
            for same in [
                path.to_owned(),
                format!("{path}/"),
                format!("/{path}//"),
                path.replace('/', "///"),
            ] {
                assert_eq!(find(&same), Some(route), "{same}");
            }
            for other in [
                &path[1..],
                &path[..path.len() - 1],
                &format!("{path}x"),
                &format!("{path}/x"),
                &format!("/x{path}"),
                &format!("/.{path}"),
                &path.to_uppercase(),
                &format!("{path}%2f"),
            ] {
                assert_eq!(find(other), None, "{other}");
            }
        }
        for other in ["", "/", "//", "*", "/-", "/-/"] {
            assert_eq!(find(other), None, "{other}");
        }
    }
}
