//! Markdown tables, so that a harness prints what a page of the docs can take as it is.

/// A table with left-aligned columns.
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(head.iter().map(ToString::to_string).collect());
    out.push_str(&line(vec!["---".to_string(); head.len()]));
    rows.iter().for_each(|row| out.push_str(&line(row.clone())));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_a_line() {
        let table = super::markdown(&["a", "b"], &[vec!["1".into(), "2".into()]]);
        assert_eq!(table, "| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
