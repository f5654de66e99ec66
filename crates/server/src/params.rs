//! The parameters of a URL, read strictly: each once unless it may be repeated, and on our own routes
//! none that is not known, because a mistyped filter would match everything.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use sidestream::core::Invalid;
use sidestream::{TaskId, ThreadId};

use crate::problem::Problem;

/// Those that every route knows: see `auth`.
const EVERYWHERE: [&str; 2] = ["apiKey", "namespace"];

/// What is left of a URL's parameters.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    known: BTreeSet<&'static str>,
}

impl Params {
    /// The parameters of a URL.
    pub(crate) fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self {
            pairs: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            known: EVERYWHERE.into(),
        }
    }

    /// Takes every value of a parameter that may be repeated. Empty ones count as not given.
    pub(crate) fn all(&mut self, name: &'static str) -> Vec<String> {
        let mut values = self.take(name);
        values.retain(|value| !value.is_empty());
        values
    }

    /// Takes a parameter. An empty one counts as not given.
    pub(crate) fn one(&mut self, name: &'static str) -> Result<Option<String>, Invalid> {
        let found = self.maybe_empty(name)?;
        Ok(found.filter(|value| !value.is_empty()))
    }

    /// Takes a parameter that may be the empty text.
    pub(crate) fn maybe_empty(&mut self, name: &'static str) -> Result<Option<String>, Invalid> {
        let mut values = self.take(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            n => Err(Invalid::new(name, format!("is given {n} times, not once"))),
        }
    }

    /// Takes a parameter of a type that can be read from text.
    pub(crate) fn parsed<T: FromStr<Err = Invalid>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Invalid> {
        let value = self.one(name)?.map(|text| text.parse());
        // What is wrong is said of the parameter, whatever the type calls itself.
        value
            .transpose()
            .map_err(|e: Invalid| Invalid::new(name, e.problem))
    }

    /// Takes a whole number from 0 to `max`.
    pub(crate) fn number(&mut self, name: &'static str, max: u64) -> Result<Option<u64>, Invalid> {
        let read = |text: String| {
            let is_number = text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|n| is_number && *n <= max);
            number.ok_or_else(|| {
                let problem = format!("is {:?}, not a whole number from 0 to {max}", short(&text));
                Invalid::new(name, problem)
            })
        };
        self.one(name)?.map(read).transpose()
    }

    /// Takes one of some words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Invalid> {
        let read = |text: String| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let problem = format!("is {:?}, none of {}", short(&text), all.join(", "));
                Invalid::new(name, problem)
            })
        };
        self.one(name)?.map(read).transpose()
    }

    /// Refuses what is left: nobody would heed it.
    pub(crate) fn finish(self) -> Result<(), Invalid> {
        let is_unknown = |name: &&String| !EVERYWHERE.contains(&name.as_str());
        match self.pairs.iter().map(|(name, _)| name).find(is_unknown) {
            None => Ok(()),
            Some(name) => {
                let known: Vec<_> = self.known.into_iter().collect();
                let problem = format!("is not a parameter of this route: {}", known.join(", "));
                Err(Invalid::new(short(name), problem))
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Vec<String> {
        self.known.insert(name);
        let is_it = |(key, _): &mut (String, String)| key == name;
        let taken = self.pairs.extract_if(.., is_it);
        taken.map(|(_, value)| value).collect()
    }
}

/// The start of a text: enough to recognise it by.
pub(crate) fn short(text: &str) -> String {
    let mut start: String = text.chars().take(64).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

/// The id of the task that a route is about: from its path, or, on the routes for ids that a path
/// cannot carry (the empty one, `.` and `..`), from `?id=`.
#[derive(Debug)]
pub(crate) struct OfTask(pub(crate) TaskId);

/// The id of the thread that a route is about; otherwise as [`OfTask`].
#[derive(Debug)]
pub(crate) struct OfThread(pub(crate) ThreadId);

impl<S: Send + Sync> FromRequestParts<S> for OfTask {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id(parts, state).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfThread {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id(parts, state).await.map(Self)
    }
}

async fn id<T, S>(parts: &mut Parts, state: &S) -> Result<T, Problem>
where
    T: FromStr<Err = Invalid> + Display,
    S: Send + Sync,
{
    let in_path = Option::<Path<String>>::from_request_parts(parts, state).await;
    let text = match in_path {
        Ok(Some(Path(text))) => text,
        Ok(None) => {
            let id = Params::of(&parts.uri).maybe_empty("id")?;
            id.ok_or_else(|| Invalid::new("id", "is missing: give it as ?id="))?
        }
        Err(_) => return Err(Invalid::new("id", "is not UTF-8").into()),
    };
    let id = text.parse::<T>();
    id.map_err(|e| Invalid::new("id", e.problem).into())
}
