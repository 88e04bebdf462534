//! Selectors of nodes as labels that a node must have. A pool cannot say more about nodes.

use super::source::{Result, Source, shown};
use crate::config::Field;
use crate::json::Json;
use std::collections::BTreeMap;

/// Labels that a node must have, with their values.
pub(super) type Labels = BTreeMap<String, String>;

const WIDER: &str = "matchLabels cannot say this, so the pool is for more nodes than before";

/// Reads a selector of `matchLabels` and `matchExpressions`.
pub(super) fn label_selector(source: &mut Source<'_>, selector: &Field<'_>) -> Result<Labels> {
    selector.object()?;
    let mut labels = Labels::new();
    if let Some(all) = selector.find("matchLabels") {
        for (key, value) in all.object()?.value.entries() {
            let path = all.path_of(&all.key(key));
            let value = Field::new(path.as_str(), value).text()?.to_owned();
            require(source, &mut labels, &path, key, &value);
        }
    }
    if let Some(list) = selector.find("matchExpressions") {
        expressions(source, &list, &mut labels)?;
    }
    source.rest(selector, &["matchLabels", "matchExpressions"], &[]);
    Ok(labels)
}

/// Reads a selector of `nodeSelectorTerms`.
pub(super) fn node_selector(source: &mut Source<'_>, selector: &Field<'_>) -> Result<Labels> {
    let mut labels = Labels::new();
    source.rest(selector.object()?, &["nodeSelectorTerms"], &[]);
    let Some(terms) = selector.find("nodeSelectorTerms") else {
        return Ok(labels);
    };
    let mut each = terms.list()?;
    match (each.next(), each.len()) {
        (None, _) => {}
        (Some(term), 0) => {
            if let Some(list) = term.object()?.find("matchExpressions") {
                expressions(source, &list, &mut labels)?;
            }
            if let Some(fields) = term.find("matchFields") {
                source.lost(&fields.path, WIDER);
            }
            source.rest(&term, &["matchExpressions", "matchFields"], &[]);
        }
        (Some(_), others) => source
            .lost(&terms.path, format!("a node needs only one of {} terms: {WIDER}", others + 1)),
    }
    Ok(labels)
}

fn expressions(source: &mut Source<'_>, list: &Field<'_>, labels: &mut Labels) -> Result<()> {
    for item in list.list()? {
        let text = |key: &str| item.object()?.find(key).ok_or_else(|| item.lacks(key))?.text();
        let (key, operator) = (text("key")?, text("operator")?);
        let values = item.find("values").map_or(Ok(Vec::new()), |values| values.texts())?;
        match (operator, values.as_slice()) {
            ("In", [value]) => require(source, labels, &item.path, key, value),
            _ => {
                let of = match values.len() {
                    0 => String::new(),
                    1..=8 => format!(" ({})", shown(&values.join(", "))),
                    many => format!(" ({many} values)"),
                };
                let said = format!("{} {}{of}", shown(key), shown(operator));
                source.lost(&item.path, format!("{said}: {WIDER}"));
            }
        }
    }
    Ok(())
}

/// Adds a label that a node must have.
fn require(source: &mut Source<'_>, labels: &mut Labels, path: &str, key: &str, value: &str) {
    match labels.get(key) {
        Some(known) if known == value => {}
        Some(known) => {
            source.lost(path, format!("the label {} must already be {}", shown(key), shown(known)))
        }
        None => {
            labels.insert(key.to_owned(), value.to_owned());
        }
    }
}

/// Reads Calico's selector expression: comparisons with `==` that are joined by `&&`.
pub(super) fn expression(source: &mut Source<'_>, field: &Field<'_>) -> Result<Labels> {
    let text = field.text()?.trim();
    let mut labels = Labels::new();
    if text == "all()" || text.is_empty() {
        return Ok(labels);
    }
    let Some(pairs) = text.split("&&").map(comparison).collect::<Option<Vec<_>>>() else {
        source.lost(&field.path, format!("{}: {WIDER}", shown(text)));
        return Ok(labels);
    };
    for (key, value) in pairs {
        require(source, &mut labels, &field.path, key, value);
    }
    Ok(labels)
}

/// Returns key and value of `key == "value"`.
fn comparison(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once("==")?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
    (!key.is_empty() && key.chars().all(is_key) && !inner.contains(['"', '\'']))
        .then_some((key, inner))
}

/// Returns the texts of a list, such as namespaces.
pub(super) fn texts(list: Option<Field<'_>>) -> Result<Vec<String>> {
    Ok(list.map_or(Ok(Vec::new()), |list| match list.value {
        Json::Array(_) => list.texts(),
        _ => Err(list.wrong("expected a list of texts")),
    })?)
}
