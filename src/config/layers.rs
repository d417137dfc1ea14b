//! The sources laid over each other, and what has been taken from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tercet_core::ids::ParticipantName;

use super::{
    ConfigError, Fault, Origin, Participant, Setting, Shown, Sources,
    error::{distance, nearest},
    file, parse,
};

const ENVIRONMENT_PREFIX: &str = "TERCET_";
/// Variables that are not settings of the coordinator.
const OTHER_VARIABLES: [&str; 2] = ["TERCET_CONFIG", "TERCET_SERVER"];

/// One value as it was found.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// All that was found, by key; of two the stronger one.
pub(super) struct Layers {
    found: BTreeMap<String, Raw>,
    variables: Vec<(String, String)>,
    known: Vec<String>,
    shown: Vec<Shown>,
    faults: Vec<Fault>,
}

impl Layers {
    pub(super) fn new(sources: &Sources) -> Result<Self, ConfigError> {
        let mut layers = Self {
            found: BTreeMap::new(),
            variables: sources.environment.clone(),
            known: Vec::new(),
            shown: Vec::new(),
            faults: Vec::new(),
        };
        if let Some(path) = &sources.file {
            for raw in file::read(path)? {
                layers.found.insert(raw.key.clone(), raw);
            }
        }
        layers.add_participants_of_environment();
        for flag in &sources.flags {
            let origin = Origin::Flag(flag.flag.as_str().into());
            if flag.key == "participant" {
                layers.add_participant(&flag.value, origin);
            } else {
                let (key, value) = (flag.key.clone(), flag.value.clone());
                layers.found.insert(key.clone(), Raw { key, value, origin });
            }
        }
        Ok(layers)
    }

    /// The value of a key, read by `parse`. What can't be read is noted as a fault, and the default
    /// stands in for it until [`Layers::finish`].
    pub(super) fn take<T>(
        &mut self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Setting<T> {
        let raw = self.strongest(key).unwrap_or_else(|| Raw {
            key: key.to_owned(),
            value: default.to_owned(),
            origin: Origin::Default,
        });
        self.known.push(key.to_owned());
        let value = parse(&raw.value).unwrap_or_else(|help| {
            self.faults.push(Fault {
                origin: Some(raw.origin.clone()),
                problem: format!("{key} can't be {:?}", raw.value),
                help,
            });
            parse(default).expect("a default is valid")
        });
        self.show(&raw);
        Setting {
            value,
            origin: raw.origin,
        }
    }

    /// A flag's value, else the environment's, else the file's.
    fn strongest(&mut self, key: &str) -> Option<Raw> {
        let found = self.found.remove(key);
        if found
            .as_ref()
            .is_some_and(|raw| matches!(raw.origin, Origin::Flag(_)))
        {
            return found;
        }
        self.variable(key).or(found)
    }

    fn variable(&self, key: &str) -> Option<Raw> {
        let value = |name: &str| {
            let (_, value) = self.variables.iter().find(|(it, _)| it == name)?;
            Some(Raw {
                key: key.to_owned(),
                value: value.clone(),
                origin: Origin::Environment(name.into()),
            })
        };
        // RUST_LOG is what everybody tries first.
        value(&variable_of(key)).or_else(|| value("RUST_LOG").filter(|_| key == "log"))
    }

    fn show(&mut self, raw: &Raw) {
        self.shown.push(Shown {
            key: raw.key.clone(),
            value: raw.value.clone(),
            origin: raw.origin.clone(),
        });
    }

    /// `TERCET_PARTICIPANTS="inventory=http://a:1,http://b:1 payment=sessions"`.
    fn add_participants_of_environment(&mut self) {
        let name = "TERCET_PARTICIPANTS";
        let texts = self.variables.iter().find(|(it, _)| it == name);
        let Some(texts) = texts.map(|(_, texts)| texts.clone()) else {
            return;
        };
        for text in texts.split_whitespace() {
            self.add_participant(text, Origin::Environment(name.into()));
        }
    }

    /// `NAME=URL[,URL]…`; the word `sessions` stands for those that the participant opens.
    fn add_participant(&mut self, text: &str, origin: Origin) {
        let Some((name, places)) = text.split_once('=') else {
            self.faults.push(Fault {
                origin: Some(origin),
                problem: format!("participant can't be {text:?}"),
                help:
                    "write NAME=URL, NAME=URL,URL for several endpoints of one, or NAME=sessions \
                       for one that connects by itself"
                        .into(),
            });
            return;
        };
        let (sessions, endpoints): (Vec<&str>, Vec<&str>) =
            places.split(',').partition(|place| *place == "sessions");
        if !sessions.is_empty() {
            let (key, value) = (format!("participants.{name}.sessions"), "true".to_owned());
            let origin = origin.clone();
            self.found.insert(key.clone(), Raw { key, value, origin });
        }
        let key = format!("participants.{name}.endpoints");
        let value = endpoints.join(",");
        self.found.insert(key.clone(), Raw { key, value, origin });
    }

    /// Everything below `participants`.
    pub(super) fn take_participants(
        &mut self,
        call_timeout: &Setting<Duration>,
    ) -> BTreeMap<ParticipantName, Participant> {
        let names: BTreeSet<String> = self
            .found
            .keys()
            .filter_map(|key| key.strip_prefix("participants."))
            .map(|rest| {
                rest.rsplit_once('.')
                    .map_or(rest, |(name, _)| name)
                    .to_owned()
            })
            .collect();
        let mut participants = BTreeMap::new();
        for text in names {
            let participant = self.take_participant(&text, call_timeout);
            match ParticipantName::parse(&text) {
                Ok(name) => drop(participants.insert(name, participant)),
                Err(error) => self.faults.push(Fault {
                    origin: Some(participant.endpoints.origin),
                    problem: format!("{text:?} can't be a participant's name: {error}"),
                    help: "for example inventory, or payment-2".into(),
                }),
            }
        }
        participants
    }

    fn take_participant(&mut self, name: &str, default: &Setting<Duration>) -> Participant {
        let key = |field: &str| format!("participants.{name}.{field}");
        let endpoints = self.take(&key("endpoints"), "", parse::endpoints);
        let sessions = self.take(&key("sessions"), "false", parse::yes_or_no);
        if endpoints.is_empty() && !*sessions {
            self.faults.push(Fault {
                origin: Some(endpoints.origin.clone()).filter(|it| *it != Origin::Default),
                problem: format!("participant {name} has no endpoints"),
                help: format!(
                    "set {} to [\"http://HOST:PORT\"], or {} to true when it connects by itself",
                    key("endpoints"),
                    key("sessions")
                ),
            });
        }
        let call_timeout = key("call_timeout");
        let call_timeout = if self.found.contains_key(&call_timeout) {
            self.take(&call_timeout, "3s", parse::timeout)
        } else {
            self.known.push(call_timeout);
            default.clone()
        };
        Participant {
            endpoints,
            sessions,
            call_timeout,
        }
    }

    /// Notes a fault unless the first is at most the second.
    pub(super) fn in_order<T: PartialOrd>(
        &mut self,
        low_key: &str,
        low: &Setting<T>,
        high_key: &str,
        high: &Setting<T>,
    ) {
        if low.value > high.value {
            let set_low = low.origin != Origin::Default;
            let origin = if set_low { &low.origin } else { &high.origin };
            self.faults.push(Fault {
                origin: Some(origin.clone()),
                problem: format!("{low_key} is more than {high_key}"),
                help: format!(
                    "lower {low_key} ({}) or raise {high_key} ({})",
                    low.origin, high.origin
                ),
            });
        }
    }

    /// What was taken; everything wrong, when anything is.
    pub(super) fn finish(mut self) -> Result<Vec<Shown>, ConfigError> {
        for raw in std::mem::take(&mut self.found).into_values() {
            let fault = self.unknown(raw.key, raw.origin);
            self.faults.push(fault);
        }
        self.look_for_mistyped_variables();
        if self.faults.is_empty() {
            Ok(self.shown)
        } else {
            Err(ConfigError {
                faults: self.faults,
            })
        }
    }

    fn unknown(&self, key: String, origin: Origin) -> Fault {
        let nearest = nearest(&key, self.known.iter().map(String::as_str));
        Fault {
            origin: Some(origin),
            problem: format!("no setting is called {key}"),
            help: format!("did you mean {}?", nearest.unwrap_or("participants")),
        }
    }

    /// Not every strange `TERCET_` variable is a mistake: Kubernetes sets `TERCET_PORT` and others
    /// for a service of that name. Only what is almost a setting's name is one.
    fn look_for_mistyped_variables(&mut self) {
        let mut names: Vec<String> = self.known.iter().map(|key| variable_of(key)).collect();
        names.push("TERCET_PARTICIPANTS".into());
        names.extend(OTHER_VARIABLES.map(String::from));
        for (variable, _) in &self.variables {
            if !variable.starts_with(ENVIRONMENT_PREFIX) || names.contains(variable) {
                continue;
            }
            let Some(near) = names.iter().min_by_key(|name| distance(variable, name)) else {
                continue;
            };
            if distance(variable, near) <= 2 {
                self.faults.push(Fault {
                    origin: Some(Origin::Environment(Arc::from(variable.as_str()))),
                    problem: format!("no setting is called {variable}"),
                    help: format!("did you mean {near}?"),
                });
            }
        }
    }
}

fn variable_of(key: &str) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        key.replace('.', "_").to_uppercase()
    )
}
