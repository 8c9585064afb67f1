//! Rows as COPY (FORMAT binary) sends them: what is hashed are these bytes.

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use hyper::body::Bytes;
use sqlx::postgres::PgConnection;
use sqlx::types::Uuid;

/// The signature, the flags, and the length of an extension that there never is.
const HEADER_BYTES: usize = 19;

/// Runs `COPY (query) TO STDOUT (FORMAT binary)` and hands over each row.
pub(crate) async fn read(
    connection: &mut PgConnection,
    query: &str,
    mut each: impl FnMut(Fields<'_>) -> Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    let mut copy = Copy::start(connection, query).await?;
    while copy.next(&mut each).await? {}
    Ok(())
}

/// What a COPY sends, message by message.
pub(crate) struct Copy<'c> {
    messages: BoxStream<'c, Result<Bytes, sqlx::Error>>,
    is_first: bool,
}

impl<'c> Copy<'c> {
    /// Runs `COPY (query) TO STDOUT (FORMAT binary)`.
    pub(crate) async fn start(
        connection: &'c mut PgConnection,
        query: &str,
    ) -> Result<Self, sqlx::Error> {
        let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        Ok(Self {
            messages: connection.copy_out_raw(&copy).await?,
            is_first: true,
        })
    }

    /// Hands over each row of the next message, mostly one; returns whether there was a message.
    pub(crate) async fn next(
        &mut self,
        mut each: impl FnMut(Fields<'_>) -> Result<(), sqlx::Error>,
    ) -> Result<bool, sqlx::Error> {
        let Some(message) = self.messages.try_next().await? else {
            return Ok(false);
        };
        let mut rest = &message[..];
        if std::mem::take(&mut self.is_first) {
            rest = rest.get(HEADER_BYTES..).ok_or_else(broken)?;
        }
        while !rest.is_empty() {
            let count = i16::from_be_bytes(take(&mut rest)?);
            let Ok(count) = usize::try_from(count) else {
                // The end.
                break;
            };
            let row = rest;
            for _ in 0..count {
                skip(&mut rest)?;
            }
            each(Fields {
                rest: &row[..row.len() - rest.len()],
            })?;
        }
        Ok(true)
    }
}

/// The fields of a row that are not read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Returns the fields that are left, as they were sent.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.rest
    }

    /// Returns the next field's bytes; `None` for NULL.
    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, sqlx::Error> {
        let image = self.images(1)?;
        Ok((image.len() > 4 || image == [0; 4]).then(|| &image[4..]))
    }

    /// Returns the next fields as they were sent, with their lengths.
    pub(crate) fn images(&mut self, count: usize) -> Result<&'a [u8], sqlx::Error> {
        let all = self.rest;
        for _ in 0..count {
            skip(&mut self.rest)?;
        }
        Ok(&all[..all.len() - self.rest.len()])
    }

    pub(crate) fn uuid(&mut self) -> Result<Option<Uuid>, sqlx::Error> {
        Ok(self.fixed()?.map(Uuid::from_bytes))
    }

    pub(crate) fn i64(&mut self) -> Result<Option<i64>, sqlx::Error> {
        Ok(self.fixed()?.map(i64::from_be_bytes))
    }

    pub(crate) fn is_true(&mut self) -> Result<bool, sqlx::Error> {
        Ok(self.fixed()?.is_some_and(|[byte]| byte == 1))
    }

    /// Returns the next field if it has `N` bytes; one of another length is not of its type.
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<Option<[u8; N]>, sqlx::Error> {
        let field = self.field()?;
        field
            .map(TryInto::try_into)
            .transpose()
            .map_err(|_| broken())
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], sqlx::Error> {
    let (taken, left) = rest.split_first_chunk().ok_or_else(broken)?;
    *rest = left;
    Ok(*taken)
}

fn skip(rest: &mut &[u8]) -> Result<(), sqlx::Error> {
    let length = i32::from_be_bytes(take(rest)?);
    // NULL has a length of -1.
    let length = usize::try_from(length.max(0)).map_err(|_| broken())?;
    *rest = rest.get(length..).ok_or_else(broken)?;
    Ok(())
}

fn broken() -> sqlx::Error {
    sqlx::Error::Protocol(String::from("the data of a COPY is not in its format"))
}
