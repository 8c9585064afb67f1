//! Field images: the values of columns as Postgres' `COPY ... (FORMAT binary)` writes them. Frozen: format 1.
//!
//! An image is the length of the value in four bytes, -1 for NULL, and the value's bytes.

use uuid::Uuid;

/// A value: its bytes, or `None` for NULL.
pub type Image<'a> = Option<&'a [u8]>;

/// Why bytes are no images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// They end within an image.
    #[error("the field images are cut off")]
    CutOff,
    /// A length is negative, and not that of NULL.
    #[error("a field image has an invalid length")]
    Length,
    /// There are more, or fewer, than columns.
    #[error("there are not {columns} field images, one for each column")]
    Count {
        /// The number of columns.
        columns: usize,
    },
    /// A value is larger than an image can hold.
    #[error("a value of {bytes} bytes is too large for a field image")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// The images in a string of bytes, one after the other. The first error ends them.
#[derive(Clone, Debug)]
pub struct Images<'a> {
    rest: &'a [u8],
}

impl<'a> Images<'a> {
    /// Reads images.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns what is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn read(&mut self) -> Result<Image<'a>, ImageError> {
        let (length, after) = self.rest.split_first_chunk().ok_or(ImageError::CutOff)?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.rest = after;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| ImageError::Length)?;
        let (value, after) = after.split_at_checked(length).ok_or(ImageError::CutOff)?;
        self.rest = after;
        Ok(Some(value))
    }
}

impl<'a> Iterator for Images<'a> {
    type Item = Result<Image<'a>, ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let image = self.read();
        if image.is_err() {
            self.rest = &[];
        }
        Some(image)
    }
}

/// Appends the image of a value.
///
/// # Errors
/// If the value is larger than an image can hold.
pub fn push_image(bytes: &mut Vec<u8>, value: Image<'_>) -> Result<(), ImageError> {
    let Some(value) = value else {
        bytes.extend((-1_i32).to_be_bytes());
        return Ok(());
    };
    let too_large = ImageError::TooLarge { bytes: value.len() };
    let length = i32::try_from(value.len()).map_err(|_| too_large)?;
    bytes.extend(length.to_be_bytes());
    bytes.extend(value);
    Ok(())
}

/// Reads the images of these columns, each with its name.
///
/// # Errors
/// If the bytes are not one image for each of the columns.
pub fn named<'a>(
    bytes: &'a [u8],
    columns: &[&'static str],
) -> Result<Vec<(&'static str, Image<'a>)>, ImageError> {
    let count = ImageError::Count {
        columns: columns.len(),
    };
    let mut images = Images::new(bytes);
    let named = columns
        .iter()
        .map(|column| Ok((*column, images.next().ok_or(count)??)))
        .collect::<Result<Vec<_>, _>>()?;
    if images.rest.is_empty() {
        Ok(named)
    } else {
        Err(count)
    }
}

/// Reads an `int8`.
pub fn int8(image: Image<'_>) -> Option<i64> {
    image?.try_into().ok().map(i64::from_be_bytes)
}

/// Reads a `uuid`.
pub fn uuid(image: Image<'_>) -> Option<Uuid> {
    Uuid::from_slice(image?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn images_are_read_with_the_names_of_their_columns() {
        let bytes = b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(
            named(bytes, &["a", "b", "c"]).unwrap(),
            [("a", Some(&b"ab"[..])), ("b", None), ("c", Some(&b""[..]))]
        );
        for columns in [&["a", "b"][..], &["a", "b", "c", "d"]] {
            let count = ImageError::Count {
                columns: columns.len(),
            };
            assert_eq!(named(bytes, columns), Err(count));
        }
        assert_eq!(named(b"", &[]), Ok(vec![]));
    }

    #[test]
    fn malformed_images_are_refused() {
        for (bytes, error) in [
            (&b"\0\0\0"[..], ImageError::CutOff),
            (b"\0\0\0\x02a", ImageError::CutOff),
            (b"\x7f\xff\xff\xffa", ImageError::CutOff),
            (b"\xff\xff\xff\xfea", ImageError::Length),
            (b"\x80\0\0\0a", ImageError::Length),
        ] {
            let mut images = Images::new(bytes);
            assert_eq!(images.next(), Some(Err(error)));
            assert_eq!(images.next(), None);
        }
    }

    #[test]
    fn values_are_those_of_postgres() {
        assert_eq!(int8(Some(&[0, 0, 0, 0, 0, 0, 1, 2])), Some(258));
        assert_eq!(int8(Some(&[0xff; 8])), Some(-1));
        assert_eq!(int8(Some(&[0; 4])), None);
        assert_eq!(int8(None), None);
        assert_eq!(uuid(Some(&[7; 16])), Some(Uuid::from_bytes([7; 16])));
        assert_eq!(uuid(Some(&[7; 15])), None);
    }

    proptest! {
        #[test]
        fn images_are_read_as_they_were_written(values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..30)) {
            let mut bytes = Vec::new();
            for value in &values {
                push_image(&mut bytes, value.as_deref()).unwrap();
            }
            let read: Result<Vec<_>, _> = Images::new(&bytes).collect();
            let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
            prop_assert_eq!(read, Ok(values));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let count = Images::new(&bytes).count();
            prop_assert!(count <= bytes.len());
        }
    }
}
