//! Result files in, tables, plots and one HTML page out.
