//! The concept Profile: accounts, identified by a name and a password.

mod accounts;
mod attempts;
mod bcrypt_hash;
mod blocklist;
mod name;
mod opaque;
mod password;
mod password_rules;
mod refusal;
mod settings;
mod strength;

use concert_worker::{Worker, concept};

use self::accounts::Profile;
pub use self::password::{HashPool, PoolError, Verdict, raw_hashes_per_second};
pub use self::settings::Settings;

/// The worker of Profile.
pub fn worker() -> Worker {
    concept(include_str!("../Profile.concept"))
        .settings::<Settings>()
        .checked(Settings::check)
        .open(Profile::open)
        .action("createAccount", Profile::create_account)
        .action("authenticate", Profile::authenticate)
        .action("changePassword", Profile::change_password)
        .action("confirmPassword", Profile::confirm_password)
        .action("disableAccount", Profile::disable_account)
        .action("enableAccount", Profile::enable_account)
        .action("deleteAccount", Profile::delete_account)
        .query("_getUserDetails", Profile::get_user_details)
        .query("_getUserByName", Profile::get_user_by_name)
        .query("_getAllUsers", Profile::get_all_users)
        .import("accounts", Profile::import)
        .build()
}
