//! The scenarios by name.

use clap::ValueEnum;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// With the right password.
    Login,
    /// With a wrong password.
    FailedLogin,
    /// Of a session that is there.
    Logout,
    /// Of a session that is not.
    UnknownLogout,
    /// More logins than there are processors for, and logouts beside them.
    Overload,
    /// Logins under names that nobody has, and with wrong passwords: whether one can be told from
    /// the other by its time.
    Timing,
    /// What it costs to keep, count and trace every flow.
    Observability,
}

impl Kind {
    /// Every kind that is run at each number of requests in flight.
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
        }
    }
}
