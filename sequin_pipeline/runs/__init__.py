"""One run is carried out here, of a collection, of a queue or of a frame, with all that belongs to it before and after."""
