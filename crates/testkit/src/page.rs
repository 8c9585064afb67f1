//! The SQL of a page.

/// Returns each block of SQL of a page, with the heading that it is below.
pub fn sql_blocks(page: &str) -> Vec<(&str, &str)> {
    page.split("\n## ")
        .flat_map(|section| {
            let heading = section.lines().next().unwrap_or_default();
            let blocks = section.split("```sql\n").skip(1);
            blocks.map(move |block| (heading, block.split("```").next().unwrap_or_default()))
        })
        .collect()
}
