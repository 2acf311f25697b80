//! The users, as in `workers/profile`. Passwords are stored in plain text, because hashing does not
//! matter here.

use concert_wire::id::ActionId;

use super::{Call, Outcome, Plan, Written};

#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: String,
    /// Absent once the user is deleted, which frees the name.
    pub(crate) name: Option<String>,
    pub(crate) username: String,
    pub(crate) password: Option<String>,
    pub(crate) created_by: ActionId,
    /// The ids of the actions that changed the user.
    pub(crate) changes: Vec<ActionId>,
    pub(crate) deleted_by: Option<ActionId>,
}

pub(crate) struct Users {
    stamps: bool,
    pub(crate) all: Vec<User>,
}

fn user_of(action: ActionId) -> String {
    format!("user-{action}")
}

const UNKNOWN: &str = "User not found.";

impl Users {
    pub(super) fn new(stamps: bool) -> Self {
        let all = Vec::new();
        Self { stamps, all }
    }

    fn by_name(&self, name: &str) -> Option<&User> {
        self.all.iter().find(|user| user.name.as_deref() == Some(name))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&User> {
        self.all.iter().find(|user| user.id == id)
    }

    pub(super) fn name_of(&self, id: &str) -> Option<String> {
        let user = self.by_id(id).filter(|user| user.deleted_by.is_none());
        user.map(|user| user.username.clone())
    }

    fn is_stamped(&self, user: &User, action: ActionId) -> bool {
        self.stamps && user.changes.contains(&action)
    }

    fn done(id: &str) -> Outcome {
        Outcome::done([("user", id.into())])
    }

    fn taken(name: &str) -> Outcome {
        Outcome::refused(format!("Username '{name}' already exists."))
    }

    pub(super) fn read(&self, call: Call<'_>) -> Plan {
        match call.action {
            "createAccount" => match self.by_name(call.text("username")) {
                Some(user) if user.id == user_of(call.id) => Plan::Answer(Self::done(&user.id)),
                Some(_) => Plan::Answer(Self::taken(call.text("username"))),
                None => Plan::Write { seen: String::new() },
            },
            "authenticate" => {
                let user = self.by_name(call.text("username"));
                let right =
                    user.filter(|user| user.password.as_deref() == Some(call.text("password")));
                Plan::Answer(match right {
                    Some(user) => Self::done(&user.id),
                    None => Outcome::refused("Invalid username or password."),
                })
            }
            "changePassword" => self.read_change(call),
            _ => match self.by_id(call.text("user")) {
                None => Plan::Answer(Outcome::refused(UNKNOWN)),
                Some(user) => match user.deleted_by {
                    Some(by) if self.stamps && by == call.id => Plan::Answer(Outcome::done([])),
                    Some(_) => Plan::Answer(Outcome::refused(UNKNOWN)),
                    None => Plan::Write { seen: String::new() },
                },
            },
        }
    }

    fn read_change(&self, call: Call<'_>) -> Plan {
        let Some(user) = self.by_id(call.text("user")) else {
            return Plan::Answer(Outcome::refused(UNKNOWN));
        };
        if self.is_stamped(user, call.id) {
            return Plan::Answer(Self::done(&user.id));
        }
        match &user.password {
            None => Plan::Answer(Outcome::refused(UNKNOWN)),
            Some(password) if password != call.text("oldPassword") => {
                Plan::Answer(Outcome::refused("Incorrect old password."))
            }
            Some(password) => Plan::Write { seen: password.clone() },
        }
    }

    pub(super) fn write(&mut self, call: Call<'_>, seen: &str) -> Written {
        if call.action == "createAccount" {
            return self.create(call);
        }
        let stamps = self.stamps;
        let Some(user) = self.all.iter_mut().find(|user| user.id == call.text("user")) else {
            return Written::Again;
        };
        if stamps && user.changes.contains(&call.id) {
            return Written::Again;
        }
        if call.action == "changePassword" {
            if user.password.as_deref() != Some(seen) {
                return Written::Again;
            }
            user.password = Some(call.text("newPassword").to_owned());
            user.changes.push(call.id);
            return Written::Now(Self::done(&user.id));
        }
        if user.deleted_by.is_some() {
            return Written::Again;
        }
        user.deleted_by = Some(call.id);
        user.changes.push(call.id);
        (user.name, user.password) = (None, None);
        Written::Now(Outcome::done([]))
    }

    fn create(&mut self, call: Call<'_>) -> Written {
        let (id, name) = (user_of(call.id), call.text("username"));
        if self.stamps && self.by_id(&id).is_some() {
            return Written::Before(Self::done(&id));
        }
        if self.by_name(name).is_some() {
            return Written::Now(Self::taken(name));
        }
        self.all.push(User {
            id: id.clone(),
            name: Some(name.to_owned()),
            username: name.to_owned(),
            password: Some(call.text("password").to_owned()),
            created_by: call.id,
            changes: Vec::new(),
            deleted_by: None,
        });
        Written::Now(Self::done(&id))
    }
}
