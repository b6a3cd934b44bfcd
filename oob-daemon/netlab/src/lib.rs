//! Network namespaces, bridges and cuts for the tests of oob
