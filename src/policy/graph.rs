//! The order of steps: pure functions over indices, so that the same judgement serves check and drill.

/// An order in which every node comes after all it depends on, or a cycle (its first node is repeated at the end).
///
/// `after[n]` holds the nodes that must come before `n`; indices outside are ignored. Among nodes that are free
/// at the same time, the one written first comes first.
pub(crate) fn order(after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut done = vec![false; after.len()];
    let mut sorted = Vec::with_capacity(after.len());
    while sorted.len() < after.len() {
        let ready = |node: &usize| !done[*node] && after[*node].iter().all(|d| done.get(*d).copied().unwrap_or(true));
        match (0..after.len()).find(ready) {
            Some(node) => {
                done[node] = true;
                sorted.push(node);
            }
            None => return Err(find_cycle(after, &done)),
        }
    }
    Ok(sorted)
}

/// Walks back along open dependencies until a node is met again; one exists when no node is ready.
fn find_cycle(after: &[Vec<usize>], done: &[bool]) -> Vec<usize> {
    let open = |node: &usize| done.get(*node).is_some_and(|done| !done);
    let mut walk: Vec<usize> = (0..after.len()).find(open).into_iter().collect();
    while let Some(last) = walk.last() {
        let Some(next) = after[*last].iter().copied().find(open) else { break };
        if let Some(start) = walk.iter().position(|node| *node == next) {
            let mut cycle = walk.split_off(start);
            cycle.push(next);
            return cycle;
        }
        walk.push(next);
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_ties_keep_the_written_order() {
        assert_eq!(order(&[vec![2], vec![], vec![]]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[]), Ok(vec![]));
        assert_eq!(order(&[vec![9], vec![0]]), Ok(vec![0, 1]), "a node that does not exist is somebody else's error");
    }

    #[test]
    fn a_cycle_is_named_without_what_merely_leads_to_it() {
        assert_eq!(order(&[vec![0]]), Err(vec![0, 0]));
        assert_eq!(order(&[vec![1], vec![2], vec![1], vec![]]), Err(vec![1, 2, 1]));
    }
}
