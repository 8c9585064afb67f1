-- A town library: books, copies, members and loans.

CREATE TABLE book (
    id     integer PRIMARY KEY,
    title  text NOT NULL,
    author text NOT NULL,
    genre  text NOT NULL,
    year   integer NOT NULL
);

CREATE TABLE copy (
    id      integer PRIMARY KEY,
    book_id integer NOT NULL REFERENCES book,
    shelf   text NOT NULL
);

CREATE TABLE member (
    id   integer PRIMARY KEY,
    name text NOT NULL,
    town text NOT NULL
);

CREATE TABLE loan (
    id        integer PRIMARY KEY,
    copy_id   integer NOT NULL REFERENCES copy,
    member_id integer NOT NULL REFERENCES member,
    lent      date NOT NULL,
    due       date NOT NULL,
    returned  date
);

INSERT INTO book (id, title, author, genre, year) VALUES
    (1, 'The Salt Road', 'I. Varga', 'novel', 1998),
    (2, 'A Field Guide to Fog', 'P. Achterberg', 'nature', 2014),
    (3, 'Tides for Beginners', 'P. Achterberg', 'nature', 2019),
    (4, 'The Clockmaker''s Orchard', 'S. Iyer', 'novel', 2021),
    (5, 'Bridges We Meant to Build', 'L. Moreau', 'essays', 2009);

INSERT INTO copy (id, book_id, shelf) VALUES
    (11, 1, 'N-04'), (12, 1, 'N-04'), (13, 2, 'B-11'), (14, 3, 'B-11'), (15, 4, 'N-07'), (16, 4, 'N-07'), (17, 5, 'E-02');

INSERT INTO member (id, name, town) VALUES
    (1, 'Agnes Dahl', 'Upper Mill'),
    (2, 'Bruno Castellani', 'Riverside'),
    (3, 'Chidi Okafor', 'Riverside'),
    (4, 'Dorota Nowak', 'Upper Mill');

INSERT INTO loan (id, copy_id, member_id, lent, due, returned) VALUES
    (1, 11, 1, '2026-04-01', '2026-04-29', '2026-04-20'),
    (2, 13, 2, '2026-04-03', '2026-05-01', '2026-05-09'),
    (3, 15, 3, '2026-04-10', '2026-05-08', '2026-05-08'),
    (4, 12, 4, '2026-05-02', '2026-05-30', NULL),
    (5, 16, 1, '2026-05-05', '2026-06-02', NULL),
    (6, 15, 2, '2026-05-12', '2026-06-09', NULL);
