//! The scenarios and their names.

use clap::ValueEnum;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// With the right password.
    Login,
    /// With a wrong password.
    FailedLogin,
    /// Logout of an existing session.
    Logout,
    /// Logout of an unknown session.
    UnknownLogout,
    /// More concurrent logins than processors, with logouts at the same time.
    Overload,
    /// Failed logins with unknown usernames and with wrong passwords: whether their response times
    /// differ.
    Timing,
    /// Cost of archiving, counting and tracing every flow.
    Observability,
    /// Logins during uploads of books, and a list of books compared with a file of the same size.
    Large,
}

impl Kind {
    /// The kinds that run at each number of concurrent requests.
    pub(crate) const ALL: [Self; 4] =
        [Self::Login, Self::FailedLogin, Self::Logout, Self::UnknownLogout];

    /// The name in the report.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::FailedLogin => "failed login",
            Self::Logout => "logout",
            Self::UnknownLogout => "logout of an unknown session",
            Self::Overload => "overload",
            Self::Timing => "timing",
            Self::Observability => "observability",
            Self::Large => "large values",
        }
    }
}
