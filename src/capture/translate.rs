//! Values that mean something else than a field of ours: a function makes our fields of them.

use crate::limits::Limits;
use crate::record::buffers::Buffers;
use crate::record::encode::{Key, ty};
use crate::vocabulary::Field;

/// Makes fields of ours from a value. Runs on the application's thread, and holds no lock.
pub(crate) type Translate = fn(Given<'_>, &mut Translation<'_>);

/// A value that was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given<'a> {
    Text(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// Where the fields are written.
pub(crate) struct Translation<'a> {
    pub(super) out: &'a mut Buffers,
    pub(super) limits: &'a Limits,
    pub(super) saw_result: bool,
    pub(super) saw_status: bool,
}

impl Translation<'_> {
    /// Writes text of a field.
    pub(crate) fn text(&mut self, field: Field, value: &str) {
        let key = Key::Field(field);
        self.out.text(key, ty::TEXT, value.as_bytes(), self.limits);
        self.saw_result |= field.is_result();
        self.saw_status |= field == Field::Status;
    }

    /// Writes a field as it was given.
    pub(crate) fn given(&mut self, field: Field, value: Given<'_>) {
        self.value(Key::Field(field), value);
        self.saw_result |= field.is_result();
        self.saw_status |= field == Field::Status;
    }

    /// Writes a value of `metadata` as it was given.
    pub(crate) fn extra(&mut self, name: &str, value: Given<'_>) {
        self.value(Key::Extra(name), value);
    }

    /// Writes a value of `metadata` that is JSON.
    pub(crate) fn json(&mut self, name: &str, value: &str) {
        let key = Key::Extra(name);
        self.out.text(key, ty::JSON, value.as_bytes(), self.limits);
    }

    /// Notes that the value is evidence of success if it is recorded after the span began.
    pub(crate) fn is_result(&mut self) {
        self.saw_result = true;
    }

    /// Notes that the value is no such evidence, although its field is a result.
    pub(crate) fn is_no_result(&mut self) {
        self.saw_result = false;
    }

    fn value(&mut self, key: Key<'_>, value: Given<'_>) {
        let (out, limits) = (&mut *self.out, self.limits);
        match value {
            Given::Text(text) => out.text(key, ty::TEXT, text.as_bytes(), limits),
            Given::Int(int) => out.fixed(key, ty::I64, int.to_le_bytes(), limits),
            Given::Float(float) => out.fixed(key, ty::F64, float.to_le_bytes(), limits),
            Given::Bool(bool) => out.fixed(key, ty::BOOL, [u8::from(bool)], limits),
        }
    }
}
