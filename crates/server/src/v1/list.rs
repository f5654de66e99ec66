//! `GET /v1/tasks`: a page of tasks.
//!
//! The filters are those of the compatible route, read here for both.

use axum::Json;
use axum::http::Uri;
use serde::Serialize;
use sidestream::core::{Invalid, ToolCallId};
use sidestream::store::{PageKey, PageStart, TimeField};
use sidestream::{ListQuery, Namespace, Page, Status, Timestamp};

use sidestream::core::wire::TaskRecord;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Reads;
use crate::openapi::schema::{StatusSchema, TaskSchema};
use crate::params::{Params, short};
use crate::problem::Problem;

/// So many tasks make a page, where the request does not say.
const PAGE_DEFAULT: usize = 100;
/// So many at most.
pub(crate) const PAGE_MAX: usize = 1_000;
/// A page that is followed by cursor ends with the task that brings it to so many bytes of payload.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// The furthest page that can be asked for by number.
const OFFSET_MAX: u64 = 1 << 40;

const TIME_FIELDS: [(&str, TimeField); 4] = [
    ("createdAt", TimeField::CreatedAt),
    ("startedAt", TimeField::StartedAt),
    ("suspendedAt", TimeField::SuspendedAt),
    ("completedAt", TimeField::CompletedAt),
];

/// What can be asked for; it is read by [`filters`] and [`place`].
#[derive(IntoParams)]
#[expect(dead_code, reason = "it only describes the parameters")]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct ListParams {
    /// Only tasks that stand so: any of these, when given more than once.
    #[param(nullable = false)]
    status: Option<Vec<StatusSchema>>,
    /// Of this agent.
    #[param(nullable = false)]
    agent_id: Option<String>,
    /// Of this call of an agent.
    #[param(nullable = false)]
    run_id: Option<String>,
    /// Of this conversation.
    #[param(nullable = false)]
    thread_id: Option<String>,
    /// For this user or object.
    #[param(nullable = false)]
    resource_id: Option<String>,
    /// Of this tool.
    #[param(nullable = false)]
    tool_name: Option<String>,
    /// This call of a tool.
    #[param(nullable = false)]
    tool_call_id: Option<String>,
    /// Only tasks kept for an owner elsewhere (`true`), or only those dispatched here (`false`).
    #[param(nullable = false)]
    external: Option<bool>,
    /// Not before this time.
    #[param(nullable = false, format = DateTime)]
    from_date: Option<String>,
    /// Before this time.
    #[param(nullable = false, format = DateTime)]
    to_date: Option<String>,
    /// Which time that is: a task without it does not match.
    #[param(nullable = false, inline, default = "createdAt")]
    date_filter_by: Option<TimeFieldSchema>,
    /// By which time the tasks are ordered.
    #[param(nullable = false, inline, default = "createdAt")]
    order_by: Option<TimeFieldSchema>,
    /// Earliest or latest first.
    #[param(nullable = false, inline, default = "asc")]
    order_direction: Option<DirectionSchema>,
    /// The `nextCursor` of the page before, in the same order.
    #[param(nullable = false)]
    cursor: Option<String>,
    /// At most so many; fewer, where they are large: the page ends at about 8 MiB, and `nextCursor` goes on.
    #[param(nullable = false, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// The page by its number, from 0. It costs the skipping of those before: a cursor does not.
    #[param(nullable = false)]
    page: Option<u64>,
    /// So many tasks make a numbered page.
    #[param(nullable = false, maximum = 1000)]
    per_page: Option<u64>,
}

#[derive(ToSchema)]
#[expect(
    dead_code,
    clippy::enum_variant_names,
    reason = "it only describes a parameter, in the words of the wire"
)]
#[schema(rename_all = "camelCase")]
enum TimeFieldSchema {
    CreatedAt,
    StartedAt,
    SuspendedAt,
    CompletedAt,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes a parameter")]
#[schema(rename_all = "camelCase")]
enum DirectionSchema {
    Asc,
    Desc,
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskPage {
    #[schema(value_type = Vec<TaskSchema>)]
    pub(crate) tasks: Vec<TaskRecord>,
    /// How many match in all.
    pub(crate) total: u64,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next_cursor: Option<String>,
}

/// Lists tasks.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    operation_id = "list",
    params(ListParams),
    responses((status = 200, description = "A page of tasks, and how many match in all", body = TaskPage)),
)]
pub(crate) async fn list(caller: Reads, uri: Uri) -> Result<Json<TaskPage>, Problem> {
    let mut params = Params::of(&uri);
    let mut faults = Faults::default();
    let mut query = filters(&mut params, &mut faults);
    let statuses = params.all("status").into_iter();
    query.statuses = statuses
        .filter_map(|word| faults.note(status(&word)))
        .collect();
    let is_external = params.word("external", &[("true", true), ("false", false)]);
    query.is_external = faults.note(is_external).flatten();
    if let Some(Some((start, limit))) = faults.note(place(&mut params, &query).map(Some)) {
        (query.start, query.limit) = (start, limit);
    }
    faults.note(params.finish());
    faults.check()?;

    let Some(manager) = &caller.manager else {
        return Ok(Json(TaskPage {
            tasks: Vec::new(),
            total: 0,
            next_cursor: None,
        }));
    };
    let page = manager.list(query.clone()).await?;
    Ok(Json(shown(&page, &query)))
}

fn shown(page: &Page, query: &ListQuery) -> TaskPage {
    TaskPage {
        tasks: page.tasks.iter().map(TaskRecord::from).collect(),
        total: page.total,
        next_cursor: page.next.map(|key| write_cursor(key, query)),
    }
}

/// Values that cannot be accepted: all of them are told, not only the first.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Invalid>);

impl Faults {
    /// Keeps what is wrong, or hands out what is right.
    pub(crate) fn note<T>(&mut self, value: Result<T, Invalid>) -> Option<T> {
        value.map_err(|invalid| self.0.push(invalid)).ok()
    }

    fn check(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid(self.0))
    }
}

/// What both routes can filter and order by, but for the status, which one of them may repeat.
pub(crate) fn filters(params: &mut Params, faults: &mut Faults) -> ListQuery {
    // The caller's manager puts its own namespace in.
    let mut query = ListQuery::new(Namespace::default(), PAGE_MAX);
    query.bytes_max = PAGE_BYTES_MAX;
    query.agent_id = faults.note(params.parsed("agentId")).flatten();
    query.run_id = faults.note(params.parsed("runId")).flatten();
    query.thread_id = faults.note(params.parsed("threadId")).flatten();
    query.resource_id = faults.note(params.parsed("resourceId")).flatten();
    query.tool_name = faults.note(params.parsed("toolName")).flatten();
    query.tool_call_id = faults
        .note(params.parsed::<ToolCallId>("toolCallId"))
        .flatten();
    query.from = faults.note(time(params, "fromDate")).flatten();
    query.to = faults.note(time(params, "toDate")).flatten();
    let date_field = faults.note(params.word("dateFilterBy", &TIME_FIELDS));
    query.date_field = date_field.flatten().unwrap_or_default();
    let order_by = faults.note(params.word("orderBy", &TIME_FIELDS));
    query.order_by = order_by.flatten().unwrap_or_default();
    let direction = params.word("orderDirection", &[("asc", false), ("desc", true)]);
    query.is_descending = faults.note(direction).flatten().unwrap_or(false);
    query
}

/// A status by its word on the wire.
pub(crate) fn status(word: &str) -> Result<Status, Invalid> {
    Status::parse(word)
        .map_err(|e| Invalid::new("status", format!("{:?} {}", short(word), e.problem)))
}

fn time(params: &mut Params, name: &'static str) -> Result<Option<Timestamp>, Invalid> {
    params.parsed::<Timestamp>(name)
}

/// Where the page begins, by number: `None` without `perPage`. `page` means nothing without it. `per_page_max`
/// is what may be asked for; more than [`PAGE_MAX`] is not given.
pub(crate) fn numbered(
    params: &mut Params,
    per_page_max: u64,
) -> Result<Option<(PageStart, usize)>, Invalid> {
    let page = params.number("page", OFFSET_MAX)?.unwrap_or(0);
    let Some(per_page) = params.number("perPage", per_page_max)? else {
        return Ok(None);
    };
    let per_page = per_page.min(PAGE_MAX as u64);
    let offset = page.saturating_mul(per_page).min(OFFSET_MAX);
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    Ok(Some((PageStart::Offset(offset), per_page as usize)))
}

/// Where the page begins, by number or by cursor, and how long it is.
fn place(params: &mut Params, query: &ListQuery) -> Result<(PageStart, usize), Invalid> {
    let numbered = numbered(params, PAGE_MAX as u64)?;
    let limit = params.number("limit", PAGE_MAX as u64)?;
    let cursor = params.one("cursor")?;
    if let Some(place) = numbered {
        if limit.is_some() || cursor.is_some() {
            let problem = "cannot be given together with limit or cursor";
            return Err(Invalid::new("perPage", problem));
        }
        return Ok(place);
    }
    let start = match cursor {
        Some(text) => PageStart::After(read_cursor(&text, query)?),
        None => PageStart::Beginning,
    };
    Ok((start, limit.map_or(PAGE_DEFAULT, |limit| limit as usize)))
}

/// A page's cursor: the order that it is of, and the last task's place in it.
fn write_cursor(key: PageKey, query: &ListQuery) -> String {
    let time = key.time.map_or("none".to_owned(), |at| at.ms().to_string());
    let created = key.created_at.ms();
    format!("{}.{time}.{created}.{}", order(query), key.key)
}

fn read_cursor(text: &str, query: &ListQuery) -> Result<PageKey, Invalid> {
    let rest = text
        .strip_prefix(&order(query))
        .and_then(|rest| rest.strip_prefix('.'));
    let key = rest.and_then(|rest| {
        let (time, rest) = rest.split_once('.')?;
        let (created, key) = rest.split_once('.')?;
        let at = |ms: &str| Some(Timestamp::from_ms(ms.parse().ok()?));
        Some(PageKey {
            time: match time {
                "none" => None,
                ms => Some(at(ms)?),
            },
            created_at: at(created)?,
            key: key.parse().ok()?,
        })
    });
    key.ok_or_else(|| {
        let problem = format!(
            "is {:?}, no nextCursor of a list in this order",
            short(text)
        );
        Invalid::new("cursor", problem)
    })
}

fn order(query: &ListQuery) -> String {
    let mut fields = TIME_FIELDS.iter();
    let field = fields.find(|(_, field)| *field == query.order_by);
    let direction = if query.is_descending { "desc" } else { "asc" };
    format!("{}-{direction}", field.map_or("", |(word, _)| *word))
}
