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

/// A known path. A metric has it as a label: a sender must not be able to create values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Webhook,
    Healthy,
    Ready,
    Reload,
    Metrics,
}

impl Route {
    const ALL: [Self; 5] = [
        Self::Webhook,
        Self::Healthy,
        Self::Ready,
        Self::Reload,
        Self::Metrics,
    ];

    /// The route of a path. Doubled and trailing slashes do not matter: a URL with one too many is a usual mistake, and
    /// Alertmanager gives up after a 404.
    pub fn of(path: &str) -> Option<Self> {
        let segments = |path: &'static str| path.split('/').skip(1);
        let given = || path.split('/').filter(|segment| !segment.is_empty());
        let is_rooted = path.starts_with('/');
        let mut routes = Self::ALL.into_iter();
        routes.find(|route| is_rooted && given().eq(segments(route.path())))
    }

    /// The usual spelling of its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Webhook => "/webhook",
            Self::Healthy => "/-/healthy",
            Self::Ready => "/-/ready",
            Self::Reload => "/-/reload",
            Self::Metrics => "/metrics",
        }
    }

    /// The methods that it has.
    pub fn methods(self) -> &'static [&'static str] {
        match self {
            // Grafana can be set to PUT.
            Self::Webhook => &["POST", "PUT"],
            Self::Healthy | Self::Ready | Self::Metrics => &["GET", "HEAD"],
            Self::Reload => &["POST"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_too_many_do_not_change_a_path() {
        for route in Route::ALL {
            let path = route.path();
            for same in [
                path.to_owned(),
                format!("{path}/"),
                format!("/{path}//"),
                path.replace('/', "///"),
            ] {
                assert_eq!(Route::of(&same), Some(route), "{same}");
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
                assert_eq!(Route::of(other), None, "{other}");
            }
        }
        for other in ["", "/", "//", "*", "/-", "/-/"] {
            assert_eq!(Route::of(other), None, "{other}");
        }
    }
}
