//! Who looks at the page, and with which rights.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use super::answer::Refusal;
use super::connections::{Connections, Lease};
use crate::database::{Role, Scope, record_reading};
use crate::error::Error;

/// Who looks at the page.
#[derive(Debug)]
pub(super) struct Viewer {
    /// The login or the person, as the way in names it.
    pub(super) name: String,
    /// How they came in.
    pub(super) way: Way,
    /// What they may read.
    pub(super) access: Access,
    /// Why they read; recorded with each reading.
    pub(super) purpose: Option<String>,
    /// Proves that a form came from a page of this session.
    pub(super) csrf: String,
    pub(super) connections: Arc<Connections>,
    /// The places for streams of new records.
    pub(super) streams: Arc<Semaphore>,
}

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A login of Postgres, typed into the form.
    Postgres,
    /// A proxy that names the person.
    Proxy,
    /// A provider of OpenID Connect.
    OpenId,
}

impl Way {
    /// Returns its name, as it is recorded.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Proxy => "proxy",
            Self::OpenId => "openid",
        }
    }
}

/// What somebody may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    /// What the login of Postgres may, if it sees one tenant's rows: those of the tenant that it was
    /// given when it logged in.
    Login { tenant: Option<String> },
    /// What the login of Postgres may, if it sees all rows.
    LoginOfAll,
    /// The rows of one tenant.
    Tenant(String),
    /// All rows.
    Auditor,
}

impl Viewer {
    /// As whom the trail is read.
    pub(super) fn scope(&self) -> Scope<'_> {
        match &self.access {
            Access::Login { tenant } => Scope::from(tenant.as_deref()),
            Access::Tenant(tenant) => Scope::of_role(Role::Reader, Some(tenant)),
            Access::LoginOfAll => Scope::default(),
            Access::Auditor => Scope::of_role(Role::Auditor, None),
        }
    }

    /// As whom one tenant's rows are read, if the reader may choose it.
    pub(super) fn scope_of<'a>(&'a self, tenant: Option<&'a str>) -> Scope<'a> {
        match &self.access {
            Access::LoginOfAll => Scope::from(tenant),
            Access::Auditor => Scope::of_role(Role::Auditor, tenant),
            Access::Login { .. } | Access::Tenant(_) => self.scope(),
        }
    }

    /// Returns whether the rows of all tenants are read.
    pub(super) fn reads_all(&self) -> bool {
        matches!(self.access, Access::LoginOfAll | Access::Auditor)
    }

    /// Takes a connection.
    pub(super) async fn lease(&self) -> Result<Lease, Refusal> {
        self.connections.lease().await
    }

    /// Records what is about to be shown. Nothing may leave before.
    pub(super) async fn record(
        &self,
        connection: &mut PgConnection,
        reading: &Reading<'_>,
    ) -> Result<(), Error> {
        let purpose = match &self.purpose {
            Some(purpose) => purpose.clone(),
            None => format!("the page {}", reading.page),
        };
        // What a reader of one tenant asks of another is the reader's own doing.
        let tenant = self.scope().tenant().or(reading.tenant);
        let details = json!({
            "reader": self.name,
            "way": self.way.name(),
            "page": reading.page,
            "filter": reading.filter,
            "records": reading.records,
        });
        record_reading(
            self.connections.database(),
            connection,
            &purpose,
            // A longer one is in the record that was shown, which the filter names.
            reading.request.filter(|id| id.len() <= MOST_REQUEST),
            tenant,
            Some(&without_null(details).to_string()),
        )
        .await?;
        Ok(())
    }
}

/// The longest request id that a reading is recorded with, in bytes: the limit of
/// `audit.record_reading`.
pub(super) const MOST_REQUEST: usize = 4_096;

/// What is recorded of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading<'a> {
    /// Its name.
    pub(super) page: &'a str,
    /// What was asked for, as the query of its address.
    pub(super) filter: &'a str,
    pub(super) request: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
    /// How many records it shows.
    pub(super) records: usize,
}

/// Removes the fields that say nothing.
fn without_null(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value != "");
    }
    object
}
