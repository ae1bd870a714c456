//! What capture needs of the repository, as two narrow traits: real ones over the repository's own types, and in
//! tests a store in memory that can also disturb the source in the middle of a read.

use std::io::Read;

use crate::repository::{
    BlobId, BlobKind, BlobReader, BlobWriter, Chunking, ContentError, Node, RepositoryError, StoredContent,
};

/// Where content and directories go.
pub(super) trait ContentStore: Sync {
    /// As [`BlobWriter::store_content`].
    fn store_content(&self, reader: &mut dyn Read, chunking: Chunking<'_>) -> Result<StoredContent, ContentError>;
    /// As [`BlobWriter::store_tree`].
    fn store_tree(&self, nodes: Vec<Node>) -> Result<BlobId, RepositoryError>;
    /// Whether this data blob is stored already.
    fn contains(&self, id: &BlobId) -> bool;
    /// Whether this directory is stored already.
    fn contains_tree(&self, id: &BlobId) -> bool;
}

/// Where the earlier point's directories come from.
pub(super) trait EarlierTrees: Sync {
    /// As [`BlobReader::read_tree`].
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError>;
    /// Bytes of a data blob, from the index; `None` when it is not there.
    fn blob_length(&self, id: &BlobId) -> Option<u64>;
}

impl ContentStore for BlobWriter {
    fn store_content(&self, reader: &mut dyn Read, chunking: Chunking<'_>) -> Result<StoredContent, ContentError> {
        BlobWriter::store_content(self, reader, chunking)
    }

    fn store_tree(&self, nodes: Vec<Node>) -> Result<BlobId, RepositoryError> {
        BlobWriter::store_tree(self, nodes)
    }

    fn contains(&self, id: &BlobId) -> bool {
        BlobWriter::contains(self, BlobKind::Data, id)
    }

    fn contains_tree(&self, id: &BlobId) -> bool {
        BlobWriter::contains(self, BlobKind::Tree, id)
    }
}

impl EarlierTrees for BlobReader {
    fn read_tree(&self, id: &BlobId) -> Result<Vec<Node>, RepositoryError> {
        BlobReader::read_tree(self, id)
    }

    fn blob_length(&self, id: &BlobId) -> Option<u64> {
        self.length(BlobKind::Data, id)
    }
}
